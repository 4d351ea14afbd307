"""Patches of 3 s that MusiCNN's networks tag in a second: as they are, and folded.

    python benchmarks/musicnn.py [FILE ...] [--threads N] [--batch N] [--runs N]

Files are checkpoints as .npz, such as MSD_vgg.npz and MTT_musicnn.npz ("vgg" in the name tells the
network). Without files random weights are used, in which hardly a filter is constant: what folding
gains then is its arithmetic alone. Rows take turns, and the best run of each counts, since other
programs only ever slow a run down. `apart` is the largest difference between the logits of both
forms, beside the largest logit.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.models.musicnn import Musicnn, MusicnnNetwork, VggNetwork
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.musicnn import musicnn_from_checkpoint, vgg_from_checkpoint


def read(file: Path) -> Musicnn:
    is_vgg = "vgg" in file.stem.lower()
    model = Musicnn(MusicnnFrontEnd(), VggNetwork() if is_vgg else MusicnnNetwork())
    with np.load(file) as values:
        arrays = Arrays(values, file)
    model.load_state_dict((vgg_from_checkpoint if is_vgg else musicnn_from_checkpoint)(arrays))
    return model.eval()


def models(files: list[Path]) -> dict[str, Musicnn]:
    if files:
        return {file.stem: read(file) for file in files}
    torch.manual_seed(0)
    return {
        "random vgg": Musicnn(MusicnnFrontEnd(), VggNetwork()).eval(),
        "random musicnn": Musicnn(MusicnnFrontEnd(), MusicnnNetwork()).eval(),
    }


def music_like(front_end: MusicnnFrontEnd, patches: int) -> Tensor:
    """Noise whose loudness comes and goes, as patches ``(patches, 1, 187, 96)``."""
    samples = patches * front_end.framing.patch_step
    loudness = torch.sin(torch.arange(samples) / 3000.0).square()
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    return front_end(0.1 * loudness * noise)[:patches, None]


def best_seconds(forms: list[Callable[[Tensor], Tensor]], x: Tensor, runs: int) -> list[float]:
    found = [float("inf")] * len(forms)
    for run in range(runs + 1):
        for number, form in enumerate(forms):
            began = time.perf_counter()
            form(x)
            # The first one only warms up.
            if run:
                found[number] = min(found[number], time.perf_counter() - began)
    return found


@torch.inference_mode()
def measure(files: list[Path], batch: int, runs: int) -> Table:
    table = Table("weights", "plain /s", "folded /s", "ratio", "apart", "largest logit")
    for name, model in models(files).items():
        x = music_like(model.front_end, batch)
        folded = model.network.folded()
        plain_logits = model.network(x)
        apart = float((folded(x) - plain_logits).abs().max())
        plain, quick = best_seconds([model.network, folded], x, runs)
        table.add_row(
            name,
            f"{batch / plain:.1f}",
            f"{batch / quick:.1f}",
            f"{plain / quick:.1f}",
            f"{apart:.1e}",
            f"{float(plain_logits.abs().max()):.1f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="patches in one pass")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    Console().print(measure(options.files, options.batch, options.runs))


if __name__ == "__main__":
    main()
