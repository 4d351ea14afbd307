"""Benchmarks whose bars hold at a small size, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_synthetic_latents_are_taken_apart(project: Path) -> None:
    settings = '{"pairs": {"batches": 50, "batch_size": 256}, "learning_rate": 0.005}'
    command = [
        *(sys.executable, "benchmarks/synthetic_factors.py", "--rows", "100", "--seeds", "1"),
        *("--epochs", "8", "--threads", "1", "--own", "0.85", "--other", "0.02"),
        *("--settings", settings),
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_principal_components_beside_the_incremental_ones(project: Path) -> None:
    command = [
        *(sys.executable, "benchmarks/streaming_pca.py", "--columns", "600", "--rows", "512"),
        *("--components", "16", "--threads", "1"),
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    ours, theirs, ratio = done.stdout.splitlines()
    assert ours.startswith("streaming")
    assert ratio.startswith("ratio")
    assert float(ours.split()[5]) < min(1e-5, float(theirs.split()[5]))
