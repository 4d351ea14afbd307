"""Speed of SoundNet, as a multiple of real time, beside its own matrix products.

    python benchmarks/soundnet.py [--seconds 20] [--threads 1 2] [--runs 20] [--processor-time]

Random weights of the original's sizes; the arithmetic is the same with any. For each layer, in one
run and in turns:

- `modules`: convolution, batch norm, ReLU and pooling one after the other, as torch computes them;
- `network`: what `SoundNetwork` does in evaluation;
- `stream`: the same with `StackStream`, the sound pushed in pieces of 2**18 samples;
- `products`: one matrix product for each convolution, of the sizes it has when written as one, on
  operands that lie ready. Nothing is gathered, normalised or pooled: a ceiling for convolutions
  done that way.

The best of all runs is shown, because other work on the machine can only slow a run down. With
`--processor-time` and one thread, time that other work takes from this is not counted at all.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from coala_latent.models.layered import Layered
from coala_latent.models.soundnet import SoundNetwork, initialise_
from coala_latent.models.stack import Joined, NormedConvolution
from coala_latent.models.streaming import StackStream

RATE = 22050
PIECE = 1 << 18
Matrices = tuple[Tensor, Tensor]
LAYERS = {"pool5": ("pool5",), "conv7": ("conv7",), "heads": ("objects", "scenes")}


def modules(network: SoundNetwork, x: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
    return Layered._run(network, x, list(network.steps().items()), layers)


def stream(network: SoundNetwork, x: Tensor, layers: tuple[str, ...]) -> None:
    pieces = StackStream(network, layers)
    for piece in x.split(PIECE, dim=-1):
        pieces.push(piece)
    pieces.finish()


def products(network: SoundNetwork, samples: int, layers: tuple[str, ...]) -> list[Matrices]:
    """Operands of one matrix product for each convolution on the way to `layers`."""
    found = []
    for name, part in network.parts().items():
        if isinstance(part, NormedConvolution | Joined):
            convs = part.convolutions if isinstance(part, Joined) else (part.conv,)
            count = network.geometry(name).count(samples)
            for conv in convs:
                inputs = conv.in_channels * conv.kernel_size[0]
                found.append((torch.randn(count, inputs), torch.randn(inputs, conv.out_channels)))
        if name in layers:
            break
    return found


def multiply(operands: list[Matrices]) -> None:
    for left, right in operands:
        left @ right


def best_seconds(
    works: dict[str, Callable[[], object]], runs: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Best time of each, all in turns, so that a slow moment of the machine hits all alike."""
    best = dict.fromkeys(works, float("inf"))
    for run in range(runs + 1):
        for name, work in works.items():
            began = clock()
            work()
            if run:
                best[name] = min(best[name], clock() - began)
    return best


def largest_difference(network: SoundNetwork, x: Tensor) -> float:
    """Of any layer between `modules` and `network`, as a share of the layer's largest value."""
    wanted = modules(network, x, network.layers)
    # Convolutions before a pooling are computed in another way when they are not asked for.
    pooled = [layer for layer in network.layers if layer not in ("conv1", "conv2", "conv5")]
    return max(
        float((values - wanted[layer]).abs().max() / wanted[layer].abs().max())
        for layers in (network.layers, pooled)
        for layer, values in network.activations(x, layers).items()
    )


def measure(
    network: SoundNetwork, seconds: float, threads: int, runs: int, clock: Callable[[], float]
) -> Table:
    torch.set_num_threads(threads)
    x = 50 * torch.randn(1, 1, round(seconds * RATE))
    table = Table("layer", "modules", "network", "stream", "products", "network / products")
    for label, layers in LAYERS.items():
        operands = products(network, x.shape[-1], layers)
        works: dict[str, Callable[[], object]] = {
            "modules": lambda layers=layers: modules(network, x, layers),
            "network": lambda layers=layers: network.activations(x, layers),
            "stream": lambda layers=layers: stream(network, x, layers),
            "products": lambda operands=operands: multiply(operands),
        }
        best = best_seconds(works, runs, clock)
        speeds = [f"{seconds / best[name]:.0f}" for name in works]
        table.add_row(label, *speeds, f"{best['products'] / best['network']:.2f}")
    table.title = f"seconds of sound a second, {threads} threads"
    table.caption = (
        f"{seconds:g} s of sound, best of {runs} runs; layers differ by at most "
        f"{largest_difference(network, x):.1e} of their largest value"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    network = SoundNetwork()
    initialise_(network, torch.Generator().manual_seed(0))
    network.eval()
    print(f"{platform.machine()}, torch {torch.__version__}")
    with torch.inference_mode():
        for threads in options.threads:
            table = measure(network, options.seconds, threads, options.runs, clock)
            Console().print(table)


if __name__ == "__main__":
    main()
