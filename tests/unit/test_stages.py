"""Stages run when what they depend on has changed, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.stages import Folders, Stage, Stages


class Work:
    """Two stages that count their runs: `sum` adds what `numbers` wrote."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.fail = False

    def stages(
        self, numbers: list[int], factor: int = 1, inputs: dict[str, str] | None = None
    ) -> list[Stage]:
        def write(folder: Path, needs: Folders) -> None:
            self.runs.append("numbers")
            (folder / "deep").mkdir(exist_ok=True)
            (folder / "deep" / "numbers.txt").write_text(" ".join(map(str, sorted(numbers))))

        def add(folder: Path, needs: Folders) -> None:
            self.runs.append("sum")
            (folder / "began.txt").touch()
            if self.fail:
                raise DataError("broken")
            text = (needs["numbers"] / "deep" / "numbers.txt").read_text()
            (folder / "sum.txt").write_text(str(factor * sum(map(int, text.split()))))

        return [
            Stage("numbers", write, settings={"numbers": numbers}, inputs=inputs or {}),
            Stage("sum", add, ("numbers",), {"factor": factor}),
        ]


@pytest.fixture
def work() -> Work:
    return Work()


def test_a_second_run_does_nothing(tmp_path: Path, work: Work) -> None:
    for expected in (False, True):
        found = Stages(tmp_path, work.stages([1, 2])).run(quiet=True)
        assert [run.cached for run in found.values()] == [expected, expected]
        assert (found["sum"].folder / "sum.txt").read_text() == "3"
    assert work.runs == ["numbers", "sum"]


def test_only_what_depends_on_a_change_runs_again(tmp_path: Path, work: Work) -> None:
    Stages(tmp_path, work.stages([1, 2])).run(quiet=True)
    Stages(tmp_path, work.stages([1, 2], factor=10)).run(quiet=True)
    assert work.runs == ["numbers", "sum", "sum"]
    assert (tmp_path / "sum" / "sum.txt").read_text() == "30"
    Stages(tmp_path, work.stages([1, 2], 10, {"sounds": "abc"})).run(quiet=True)
    assert work.runs[3:] == ["numbers"], "the same content came out, so its reader need not run"
    Stages(tmp_path, work.stages([5], 10, {"sounds": "abc"})).run(quiet=True)
    assert work.runs[4:] == ["numbers", "sum"]


def test_settings_that_give_the_same_content_stop_there(tmp_path: Path, work: Work) -> None:
    Stages(tmp_path, work.stages([1, 2])).run(quiet=True)
    Stages(tmp_path, work.stages([2, 1])).run(quiet=True)
    assert work.runs == ["numbers", "sum", "numbers"]


def test_one_stage_runs_with_what_it_needs(tmp_path: Path, work: Work) -> None:
    found = Stages(tmp_path, work.stages([1])).run(["numbers"], quiet=True)
    assert list(found) == ["numbers"] == work.runs
    found = Stages(tmp_path, work.stages([1])).run(["sum"], again=["sum"], quiet=True)
    assert [run.cached for run in found.values()] == [True, False]
    Stages(tmp_path, work.stages([1])).run(["sum"], again=["sum"], quiet=True)
    assert work.runs == ["numbers", "sum", "sum"]


def test_damaged_results_are_made_again(tmp_path: Path, work: Work) -> None:
    Stages(tmp_path, work.stages([1])).run(quiet=True)
    (tmp_path / "sum" / "sum.txt").write_text("4")
    Stages(tmp_path, work.stages([1])).run(quiet=True)
    assert (tmp_path / "sum" / "sum.txt").read_text() == "1"
    (tmp_path / "numbers" / "stage.json").write_text("{")
    Stages(tmp_path, work.stages([1])).run(quiet=True)
    assert work.runs == ["numbers", "sum", "sum", "numbers"]


def test_a_broken_stage_leaves_the_last_results_and_goes_on(tmp_path: Path, work: Work) -> None:
    Stages(tmp_path, work.stages([1])).run(quiet=True)
    work.fail = True
    with pytest.raises(DataError, match="broken"):
        Stages(tmp_path, work.stages([7])).run(quiet=True)
    assert (tmp_path / "sum" / "sum.txt").read_text() == "1"
    (part,) = tmp_path.glob(".sum.*.part")
    assert (part / "began.txt").is_file()
    work.fail = False
    Stages(tmp_path, work.stages([7])).run(quiet=True)
    assert (tmp_path / "sum" / "sum.txt").read_text() == "7"
    assert not list(tmp_path.glob(".*.part"))


def test_parts_of_other_settings_are_removed(tmp_path: Path, work: Work) -> None:
    work.fail = True
    for numbers in ([1], [2]):
        with pytest.raises(DataError):
            Stages(tmp_path, work.stages(numbers)).run(quiet=True)
    assert len(list(tmp_path.glob(".sum.*.part"))) == 1


def test_a_foreign_folder_is_not_replaced(tmp_path: Path, work: Work) -> None:
    (tmp_path / "sum").mkdir()
    (tmp_path / "sum" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        Stages(tmp_path, work.stages([1])).run(quiet=True)
    assert (tmp_path / "sum" / "thesis.txt").read_text() == "mine"


def test_unknown_stages_and_wrong_orders_are_told(tmp_path: Path, work: Work) -> None:
    numbers, total = work.stages([1])
    with pytest.raises(ConfigError, match="there are numbers, sum"):
        Stages(tmp_path, [numbers, total]).run(["mean"])
    with pytest.raises(ConfigError, match="before numbers"):
        Stages(tmp_path, [total, numbers])
    with pytest.raises(ConfigError, match="twice"):
        Stages(tmp_path, [numbers, numbers])


def test_two_processes_do_not_share_a_folder(tmp_path: Path, work: Work) -> None:
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(ConfigError, match="another process"),
    ):
        Stages(tmp_path, work.stages([1])).run()
    assert work.runs == []
