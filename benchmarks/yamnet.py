"""Speed and exactness of YAMNet beside other implementations.

    python benchmarks/yamnet.py network [--weights NPZ] [--tflite FILE ...] [--compile]
    python benchmarks/yamnet.py files FOLDER [--weights NPZ] [--peer]
    python benchmarks/yamnet.py parity RECORDING ... --weights NPZ

Everything in one table runs in turns in one process, so that a busy machine slows all of it alike;
medians and ratios are what to look at, and `best` shows what the machine could do. Where other
programs want the cores too, threads that wait for each other measure those programs: use
`--threads 1 --clock cpu`, processor seconds of one core. Weights do not matter for speed: without
--weights they are random.

Peers are optional. What is missing is named and left out:
    pip install ai-edge-litert                      TFLite interpreter, for --tflite
    pip install --no-deps torch-vggish-yamnet       needs torchaudio, for --peer and parity
"""

from __future__ import annotations

import argparse
import copy
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from coala_latent.audio.io import find_audio
from coala_latent.embed.corpus import embed_files
from coala_latent.embed.embedder import Embedder
from coala_latent.models.yamnet import FoldedPointwise, FoldedSpatial, Yamnet, YamnetNetwork
from coala_latent.registry import describe_model
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.yamnet import yamnet_from_folded
from coala_latent.weights.files import load_into

console = Console()


def built(weights: Path | None) -> Yamnet:
    model = Yamnet().eval()
    if weights is not None:
        with np.load(weights) as arrays:
            load_into(model, yamnet_from_folded(Arrays(arrays, weights)), weights)
    return model


def in_turns(
    forms: dict[str, Callable[[], Any]], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of each run, one form after the other in every round."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    for form in forms.values():
        form()
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.runs):
        for name, form in forms.items():
            began = clock()
            form()
            seconds[name].append(clock() - began)
    return seconds


def products(network: YamnetNetwork, patches: Tensor) -> Callable[[], None]:
    """The matrix products alone: what is left of the network if all else were free."""
    pairs = []
    with torch.inference_mode():
        for layer in network.layers[1:14]:
            hidden = network.until(patches, layer)
            convolution: Any = network.get_submodule(f"{layer}.pointwise.conv")
            weight = convolution.weight.flatten(1)
            pairs.append((torch.randn(hidden.numel() // len(weight), weight.shape[1]), weight))

    def run() -> None:
        for rows, weight in pairs:
            F.linear(rows, weight)

    return run


def onednn(network: YamnetNetwork, patches: Tensor) -> Callable[[], Tensor]:
    """oneDNN's fused convolutions with packed weights, by an operator internal to torch.

    Not in the library, because its interface may change with any release of torch.
    """
    operator = torch.ops.mkldnn
    steps = []
    x = patches
    for module in network.folded().modules():
        if not isinstance(module, (FoldedSpatial, FoldedPointwise)):
            continue
        stride, padding, groups = [1, 1], [0, 0], 1
        pad: Any = torch.nn.Identity()
        weight = module.weight[..., None, None]
        if isinstance(module, FoldedSpatial):
            weight, groups, pad = module.weight, module.groups, module.pad
            stride = list(module.stride)
            padding = [int(side) for side in module.padding]
        shape = list(pad(x).shape)
        packed = operator._reorder_convolution_weight(
            weight, padding, stride, [1, 1], groups, shape
        )
        steps.append((pad, packed, module.bias, padding, stride, groups))
        x = module(x)

    def run() -> Tensor:
        x = patches.to(memory_format=torch.channels_last)
        for pad, packed, bias, padding, stride, groups in steps:
            x = operator._convolution_pointwise(
                pad(x), packed, bias, padding, stride, [1, 1], groups, "relu", [], ""
            )
        return network.classifier(x.mean((2, 3)))

    return run


def interpreters(files: Sequence[Path], threads: int, count: int) -> dict[str, Callable[[], None]]:
    """TFLite models, which take one patch at a time, from the waveform on."""
    try:
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        if files:
            console.print(f"left out: TFLite ({error}; pip install ai-edge-litert)")
        return {}
    forms: dict[str, Callable[[], None]] = {}
    for file in files:
        interpreter = litert.Interpreter(str(file), num_threads=threads)
        interpreter.allocate_tensors()
        place = interpreter.get_input_details()[0]
        noise = np.random.default_rng(0).normal(0, 0.1, place["shape"]).astype(np.float32)

        forms[f"TFLite {file.stem[:24]}"] = partial(
            interpret, interpreter, place["index"], noise, count
        )
    return forms


def interpret(interpreter: Any, place: int, noise: np.ndarray, count: int) -> None:
    for _ in range(count):
        interpreter.set_tensor(place, noise)
        interpreter.invoke()


def benchmark_network(options: argparse.Namespace) -> None:
    model = built(options.weights)
    network, count = model.network, options.batch
    sound = 0.1 * torch.randn(400 + 160 * (48 * (count - 1) + 95))
    patches = model.front_end(sound)[:count, None]
    folded = network.folded()
    plain_last: Any = copy.deepcopy(network)
    plain_last.to(memory_format=torch.channels_last)
    patches_last = patches.contiguous(memory_format=torch.channels_last)
    forms: dict[str, Callable[[], Any]] = {
        "plain": lambda: network(patches),
        "plain, channels last": lambda: plain_last(patches_last),
        "folded": lambda: folded(patches),
        "oneDNN, packed (internal)": onednn(network, patches),
        "matrix products alone": products(network, patches),
    }
    if options.compile:
        compiled, packed = (
            torch.compile(folded),
            torch.compile(network, options={"freezing": True}),
        )
        forms["folded, compiled"] = lambda: compiled(patches)
        forms["plain, compiled and frozen"] = lambda: packed(patches)
    forms |= interpreters(options.tflite, options.threads, count)
    seconds = in_turns(forms, options)
    table = Table("form", "patches a second", "best", "x plain", title=f"batches of {count}")
    plain = statistics.median(seconds["plain"])
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(
            name, f"{count / median:.0f}", f"{count / min(times):.0f}", f"{plain / median:.2f}"
        )
    console.print(table)


def peer_parts(model: Yamnet) -> tuple[Any, Any] | None:
    """Front end and network of `torch-vggish-yamnet`, with the same weights."""
    try:
        yamnet = importlib.import_module("torch_vggish_yamnet.yamnet")
        front_end = importlib.import_module("torch_vggish_yamnet.input_proc")
    except (ImportError, OSError, RuntimeError) as error:
        console.print(f"left out: torch-vggish-yamnet ({error})")
        return None
    network = yamnet.yamnet(pretrained=False).eval()
    own = model.network.state_dict()
    state = {}
    for name in network.state_dict():
        known = (
            name.replace(".fused.", ".").replace("wise_conv.", "wise.").replace(".bn.", ".norm.")
        )
        state[name] = own[known]
    network.load_state_dict(state)
    return front_end.WaveformToInput(), network


def peer(model: Yamnet) -> Callable[[Path], int] | None:
    """`torch-vggish-yamnet`, a file at a time as its README has it."""
    parts = peer_parts(model)
    if parts is None:
        return None
    convert, network = parts

    def embed(path: Path) -> int:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        with torch.inference_mode():
            embeddings, _ = network(convert(torch.from_numpy(samples.T.copy()), rate))
        return len(embeddings)

    return embed


def benchmark_files(options: argparse.Namespace) -> None:
    model = built(options.weights)
    card = describe_model(
        "yamnet",
        "For measuring.",
        architecture="yamnet",
        front_end={"name": "yamnet"},
        sizes={},
    )
    # The peer has patches of 0.96 s side by side.
    embedder = Embedder(model, card, patch_hop=96)
    paths = find_audio(options.folder)[: options.files]
    forms: dict[str, Callable[[], Any]] = {
        "coala_latent, file by file": lambda: [embedder.file(path) for path in paths],
        "coala_latent, embed_files": lambda: list(embed_files(embedder, paths)),
    }
    rows = dict.fromkeys(forms, sum(len(embedder.file(path)) for path in paths))
    other = peer(model) if options.peer else None
    if other is not None:
        forms["torch-vggish-yamnet"] = lambda: [other(path) for path in paths]
        rows["torch-vggish-yamnet"] = sum(other(path) for path in paths)
    seconds = in_turns(forms, options)
    reference = statistics.median(seconds[next(reversed(forms))])
    table = Table("files to embeddings", "files/s", "best", "patches", f"x {next(reversed(forms))}")
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(
            name,
            f"{len(paths) / median:.1f}",
            f"{len(paths) / min(times):.1f}",
            str(rows[name]),
            f"{reference / median:.2f}",
        )
    console.print(table)


def benchmark_parity(options: argparse.Namespace) -> None:
    """Differences from what the original gave for the same waveforms."""
    model = built(options.weights)
    parts = peer_parts(model)
    columns = "recording", "implementation", "log-mel", "embedding", "scores", "patches"
    table = Table(*columns, title="largest difference from the original")
    for file in options.recordings:
        with np.load(file) as arrays:
            recorded = dict(arrays)
        waveform = torch.from_numpy(recorded["waveform"])
        scores, embeddings, log_mel = model(waveform)
        found = {"coala_latent": (log_mel, embeddings, scores)}
        if parts is not None:
            patches = parts[0](waveform[None], 16000)
            hidden, logits = parts[1](patches)
            found["torch-vggish-yamnet"] = patches.flatten(0, 2), hidden, logits.sigmoid()
        for name, values in found.items():
            # The peer has every second patch.
            step = 1 if name == "coala_latent" else 2
            wanted = recorded["log_mel"], recorded["embeddings"][::step], recorded["scores"][::step]
            cells = [f"{apart(*pair):.1e}" for pair in zip(values, wanted, strict=True)]
            count = f"{len(values[2])} of {len(recorded['scores'])}"
            table.add_row(file.stem.removeprefix("yamnet_"), name, *cells, count)
    console.print(table)


def apart(found: Tensor, wanted: np.ndarray) -> float:
    """Largest difference of the rows that both have."""
    rows = found.reshape(-1, wanted.shape[1]).numpy()
    count = min(len(rows), len(wanted))
    return float(np.abs(rows[:count] - wanted[:count]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    network = commands.add_parser("network")
    network.set_defaults(benchmark=benchmark_network)
    network.add_argument("--batch", type=int, default=16)
    network.add_argument("--tflite", type=Path, nargs="*", default=[])
    network.add_argument("--compile", action="store_true", help="needs a C++ compiler")
    files = commands.add_parser("files")
    files.set_defaults(benchmark=benchmark_files)
    files.add_argument("folder", type=Path)
    files.add_argument("--files", type=int, default=80)
    files.add_argument("--peer", action="store_true")
    parity = commands.add_parser("parity")
    parity.set_defaults(benchmark=benchmark_parity)
    parity.add_argument("recordings", type=Path, nargs="+", help="yamnet_*.npz")
    for command in (network, files, parity):
        command.add_argument("--weights", type=Path, help="arrays with folded batch norms, .npz")
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--clock", choices=("wall", "cpu"), default="wall")
        command.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console.print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} time")
    with torch.inference_mode():
        options.benchmark(options)


if __name__ == "__main__":
    main()
