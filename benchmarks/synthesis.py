"""Speed of the built-in sounds on one core: seconds of sound made in a second.

Run with ``python benchmarks/synthesis.py``; it prints one line per condition and the minimum, and
exits with status 1 if that is below ``--at-least``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def speed(material: str, action: str, duration: float, sample_rate: int, takes: int) -> float:
    """Seconds of sound a second for takes that were not heard before."""
    from coala_latent.data.synthesis import synthesise

    synthesise(material, action, take=takes, sample_rate=sample_rate)
    start = time.process_time()
    for take in range(takes):
        synthesise(material, action, take=take, duration=duration, sample_rate=sample_rate)
    return takes * duration / (time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=4.0, help="of each clip, seconds")
    parser.add_argument("--sample-rate", type=int, default=22050)
    parser.add_argument("--takes", type=int, default=5, help="clips timed for each condition")
    parser.add_argument("--at-least", type=float, default=100.0, help="seconds a second")
    arguments = parser.parse_args()
    # Read by the linear algebra libraries when NumPy is first imported.
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    from coala_latent.data.synthesis import ACTIONS, MATERIALS

    speeds = {
        f"{material}_{action}": speed(
            material, action, arguments.duration, arguments.sample_rate, arguments.takes
        )
        for material in MATERIALS
        for action in ACTIONS
    }
    for label, value in speeds.items():
        print(f"{label:20} {value:7.0f} s of sound a second")
    slowest = min(speeds, key=lambda label: speeds[label])
    print(f"minimum              {speeds[slowest]:7.0f} ({slowest})")
    return int(speeds[slowest] < arguments.at_least)


if __name__ == "__main__":
    sys.exit(main())
