"""A training killed at any moment leaves weights and vectors of one step, and goes on as if not.

Run as a script it is the victim: it forks children that are killed at one chosen change of the
folder, or at any time.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.store import Store
from coala_latent.tasks.doc2vec import train_doc2vec
from coala_latent.tasks.doc2vec_folder import VectorFolder, read_vectors
from coala_latent.tasks.doc2vec_layout import weight_arrays
from coala_latent.tasks.doc2vec_settings import compose_doc2vec

NAMES = ["./a.mp3.npy", "./b c.wav.npy", "./d.wav.npy"]
ABOUT = {
    "settings": {"compat": False},
    "frames": {"settings": {"hop": 0.1}},
    "training": {},
}
SETTINGS = (
    *("hidden=8", "dim=4", "batch_size=32", "negatives=3", "pairs_per_save=320", "block=2"),
    *("epochs=10", "patience=null"),
)


def model_of(number: int) -> Doc2Vec:
    model = Doc2Vec(3, 5, 8, 4, seed=number)
    with torch.no_grad():
        model.documents.fill_(number + 1)
    return model


def save(folder: VectorFolder, number: int) -> None:
    state = {
        "model": model_of(number).state_dict(),
        "steps": number,
        "lengths": torch.tensor([3, 0, 2]),
        "durations": torch.tensor([0.3, 0.0, 0.2]),
    }
    assert folder.save(state, ABOUT, 0.5) == number


def check_names(folder: Path) -> int | None:
    """What a reader of the known names finds: files of one save, or no number."""
    epoch = folder / "epoc_num.txt"
    if not epoch.exists():
        return None
    number = int(epoch.read_text())
    model = model_of(number)
    np.testing.assert_array_equal(
        np.load(folder / f"vector_at_{number}.npy"), model.documents.detach().numpy()
    )
    for name, values in weight_arrays(model).items():
        np.testing.assert_array_equal(np.load(folder / "weights" / f"{name}.npy"), values)
    with Store(folder / "store.h5") as store:
        assert store.metadata["generation"] == number
        np.testing.assert_array_equal(store.values[:], np.full((2, 4), number + 1))
    assert len((folder / "cost_list.csv").read_text().splitlines()) == number + 2
    return number


def check_saved(folder: Path, allowed: set[int]) -> None:
    """What the library finds: a whole save, before and after it has tidied up."""
    check_names(folder)
    if (folder / "manifest.json").exists():
        saved = read_vectors(folder)
        assert saved.number in allowed
        assert saved.state["steps"] == saved.number
        np.testing.assert_array_equal(saved.vectors, np.full((3, 4), saved.number + 1))
    with VectorFolder(folder) as opened:
        last = -1 if opened.saved is None else opened.saved.number
        assert last in allowed
        if last >= 0:
            assert check_names(folder) == last
            assert [path.name for path in folder.glob("state_at_*")] == [f"state_at_{last}.pt"]
        opened.begin(NAMES, {})
        save(opened, last + 1)
    assert check_names(folder) == last + 1


def die_at(change: int) -> None:
    """Kill this process instead of its n-th change of the file system."""
    left = [change]

    def counted(function):
        def instead(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return instead

    for owner, names in (
        (Path, ("replace", "unlink")),
        (os, ("replace", "unlink", "rename")),
        (shutil, ("rmtree",)),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))


def kill_between_changes(folder: Path) -> None:
    """Saves 0 and 1, each killed at every one of its changes."""
    for number, stride in ((0, 12), (1, 1)):
        base = folder / f"base{number}"
        with VectorFolder(base) as opened:
            opened.begin(NAMES, {})
            for earlier in range(number):
                save(opened, earlier)
        killed, change = True, 0
        while killed:
            victim = folder / f"{number}-{change}"
            shutil.copytree(base, victim)
            child = os.fork()
            if child == 0:
                with VectorFolder(victim) as opened:
                    die_at(change)
                    save(opened, number)
                    os._exit(0)
            killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            check_saved(victim, {number - 1, number})
            shutil.rmtree(victim)
            change += stride
        print(f"save {number}: {change - stride} changes")
        assert change > 15


def kill_at_random(folder: Path) -> None:
    """A training killed again and again gives the uninterrupted one's vectors."""
    frames = folder / "frames"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        values = rng.normal(number, 1, (20 + number, 5)).astype(np.float32)
        np.save(frames / f"{number} é.wav.npy", values)
    settings = compose_doc2vec(SETTINGS)
    began = time.monotonic()
    whole = fork_training(frames, folder / "whole", settings, None)
    seconds = time.monotonic() - began
    assert not whole
    chance, kills = random.Random(1), 0
    for _ in range(200):
        if not fork_training(
            frames, folder / "killed", settings, chance.uniform(0.1, 0.7) * seconds
        ):
            break
        kills += 1
    print(f"{kills} kills")
    assert kills >= 2
    one, two = (read_vectors(folder / name) for name in ("whole", "killed"))
    assert one.number == two.number == 10
    np.testing.assert_array_equal(one.vectors, two.vectors)
    for number in range(11):
        name = f"vector_at_{number}.npy"
        assert (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes()
    assert one.costs == two.costs
    for name, values in weight_arrays(one.model).items():
        np.testing.assert_array_equal(
            values, np.load(folder / "killed" / "weights" / f"{name}.npy")
        )


def fork_training(frames: Path, output: Path, settings, seconds: float | None) -> bool:
    """Train in a child, killed after so long; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        train_doc2vec(frames, output, settings, quiet=True)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def run_script(what: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, __file__, what, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_weights_and_vectors_are_of_one_save_wherever_it_is_killed(tmp_path):
    assert "save 1" in run_script("changes", tmp_path)


def test_a_training_killed_at_random_gives_the_uninterrupted_ones_vectors(tmp_path):
    assert "kills" in run_script("random", tmp_path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"changes": kill_between_changes, "random": kill_at_random}[sys.argv[1]](Path(sys.argv[2]))
