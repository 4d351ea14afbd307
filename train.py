"""Train a model: ``python train.py key=value ...``; ``python train.py --help`` lists the keys."""

from __future__ import annotations

import sys

from coala_latent.tasks.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
