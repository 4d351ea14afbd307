"""The rooms' imports point one way, and importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = {
    "errors": set(),
    "types": set(),
    "audio": set(),
    "models": {"audio"},
    "weights": {"models"},
    "registry": {"audio", "models", "weights"},
    "store": set(),
    "embed": {"registry", "audio", "store", "models"},
    "data": {"audio", "store"},
    "training": {"models", "data", "audio"},
    "analysis": {"store", "models"},
    "viewer": {"analysis"},
}
BELOW_TASKS = set(ROOMS)
ROOMS["tasks"] = BELOW_TASKS
ROOMS["cli"] = {"tasks"}
EVERYWHERE = {"errors", "types"}
# Commands do not start heavy imports before they are asked to run, and `coala_latent` itself only
# hands names on.
LAZY_ROOMS = {"cli": BELOW_TASKS}


def imported_rooms(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "coala_latent":
                names |= {f"coala_latent.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name.startswith("coala_latent.")]
    return {part[1] for part in parts}


def package_files(project: Path) -> list[tuple[str, Path]]:
    package = project / "coala_latent"
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts != ("__init__.py",):
            found.append((relative.parts[0].removesuffix(".py"), path))
    return found


def test_imports_follow_the_table(project):
    files = package_files(project)
    assert len(files) > 30
    for room, path in files:
        assert room in ROOMS, f"{path} is in no room of the table"
        allowed = ROOMS[room] | EVERYWHERE | {room}
        if room in LAZY_ROOMS:
            wrong = imported_rooms(path, top_level_only=True) - allowed
            assert not wrong, f"{path} imports {wrong} at its top"
            allowed |= LAZY_ROOMS[room]
        wrong = imported_rooms(path) - allowed
        assert not wrong, f"{path} may not import {wrong}"


def test_the_check_sees_a_forbidden_import(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from coala_latent.tasks.encode import encode\n")
    assert imported_rooms(bad) == {"tasks"}
    assert imported_rooms(bad, top_level_only=True) == set()


def test_files_are_one_idea_long(project):
    for _, path in package_files(project):
        lines = len(path.read_text("utf-8").splitlines())
        assert lines <= 400, f"{path} has {lines} lines"


@pytest.mark.parametrize(
    ("imported", "forbidden"),
    [
        ("coala_latent", {"torch", "h5py", "lightning", "hydra", "sklearn"}),
        ("coala_latent.store", {"torch", "lightning", "hydra"}),
        ("coala_latent.cli", {"torch", "lightning", "hydra", "sklearn"}),
        ("encode", {"torchaudio", "lightning", "hydra", "sklearn", "tensorboard"}),
    ],
)
def test_imports_stay_light(imported, forbidden):
    code = f"import sys, {imported}; print(*sorted(set(sys.modules) & set({sorted(forbidden)!r})))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not loaded, f"import {imported} loads {loaded}"


def test_models_can_be_lifted_out(project):
    """`models/` needs nothing of the library but front ends, and no file or configuration."""
    for room, path in package_files(project):
        if room == "models":
            text = path.read_text("utf-8")
            assert "open(" not in text, path
            assert "omegaconf" not in text, path
            assert imported_rooms(path) <= {"audio", "errors", "types", "models"}
