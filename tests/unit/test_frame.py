"""The test run itself: missing test data skips with a reason, and fails in CI."""

import os
import subprocess
import sys

import pytest


def run_parity(project, tmp_path, ci):
    environment = {**os.environ, "COALA_LATENT_TEST_DATA": str(tmp_path / "nowhere"), "CI": ci}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [*command, "tests/parity/test_coala_parity.py", "-k", "log_mel"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(("ci", "status", "outcome"), [("", 0, "1 skipped"), ("true", 1, "error")])
def test_missing_test_data(project, tmp_path, ci, status, outcome):
    done = run_parity(project, tmp_path, ci)
    assert done.returncode == status, done.stdout
    assert outcome in done.stdout
    assert "no test data: put `shared` beside the project" in done.stdout


def test_ci_runs_make_test(project):
    assert "make test" in (project / ".ci" / "run").read_text()
    assert os.access(project / ".ci" / "run", os.X_OK)
