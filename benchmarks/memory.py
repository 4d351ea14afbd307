"""Peak memory of encoding a long file, beside that of a short one.

    python benchmarks/memory.py [--hours 3] [--model coala-test] [--rate 44100]

Each file is encoded by the real command in a process of its own. The long file may peak no more
than 300 MB above the one-minute file; the exit status says whether it does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

LIMIT_MB = 300.0
ENCODE = """
import resource, sys
from coala_latent.cli import encode_command
try:
    encode_command(sys.argv[1:])
finally:
    # KiB on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
"""


def write_noise(path: Path, seconds: float, rate: int) -> None:
    """Noise with a slow tremolo, written minute by minute."""
    rng = np.random.default_rng(0)
    left = round(seconds * rate)
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        while left > 0:
            count = min(left, 60 * rate)
            loudness = 0.1 + 0.05 * np.sin(np.arange(count) / rate)
            file.write((loudness * rng.standard_normal(count)).clip(-1, 1).astype(np.float32))
            left -= count


def peak_megabytes(sound: Path, store: Path, model: str) -> float:
    command = [sys.executable, "-c", ENCODE, sound, "--output", store, "--model", model, "--quiet"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--model", default="coala-test")
    parser.add_argument("--rate", type=int, default=44100)
    options = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, seconds in (
            ("1 minute", 60.0),
            (f"{options.hours:g} hours", options.hours * 3600),
        ):
            sound = folder / "sound.wav"
            write_noise(sound, seconds, options.rate)
            began = time.perf_counter()
            peaks.append(peak_megabytes(sound, folder / f"{label}.h5", options.model))
            took = time.perf_counter() - began
            print(f"{label:>10}: peak {peaks[-1]:7.0f} MB in {took:.0f} s", flush=True)
    difference = peaks[1] - peaks[0]
    print(f"difference: {difference:+.0f} MB (at most {LIMIT_MB:.0f})")
    return int(difference > LIMIT_MB)


if __name__ == "__main__":
    raise SystemExit(main())
