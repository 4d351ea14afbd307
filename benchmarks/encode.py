"""Speed of encoding, as a multiple of real time, and where the time goes.

    python benchmarks/encode.py [FOLDER] [--model NAME] [--threads N]

Each stage runs alone over the same files in one thread: decoding, decoding + resampling, + front
end, + network. Shares are differences of medians. `whole` is the real command's path, several files
at a time.
Without a folder, built-in sounds are written as wav, flac, ogg and mp3.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch
from rich.console import Console
from rich.table import Table

from coala_latent.audio.io import AudioInfo, AudioReader, find_audio, mix_channels
from coala_latent.audio.resample import StreamResampler
from coala_latent.embed.corpus import embed_files
from coala_latent.embed.embedder import Embedder, load_model


def write_sounds(folder: Path, seconds: float) -> None:
    from coala_latent.data.builtin import builtin_clips

    for number, clip in enumerate(builtin_clips(takes=1, duration=seconds, sample_rate=44100)):
        sound = clip.render()
        suffix = ("wav", "flac", "ogg", "mp3")[number % 4]
        soundfile.write(folder / f"{number:02d}.{suffix}", sound.samples, sound.sample_rate)


def decode(paths: list[Path], embedder: Embedder) -> None:
    for path in paths:
        with AudioReader(path) as reader:
            for block in reader.blocks():
                mix_channels(block, "mean")


def resample(paths: list[Path], embedder: Embedder) -> None:
    for path in paths:
        with AudioReader(path) as reader:
            stream = StreamResampler(reader.info.sample_rate, embedder.sample_rate)
            for block in reader.blocks():
                stream.push(mix_channels(block, "mean"))
            stream.finish()


def front_end(paths: list[Path], embedder: Embedder) -> None:
    for path in paths:
        for _ in embedder.file_blocks(path):
            pass


def network(paths: list[Path], embedder: Embedder) -> None:
    for path in paths:
        embedder.file(path)


def whole(paths: list[Path], embedder: Embedder) -> None:
    for _ in embed_files(embedder, paths):
        pass


def median_seconds(
    stage: Callable[[list[Path], Embedder], None], paths: list[Path], embedder: Embedder, runs: int
) -> float:
    stage(paths[:2], embedder)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        stage(paths, embedder)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def sound_seconds(paths: list[Path], embedder: Embedder) -> float:
    infos = [next(iter(embedder.file_blocks(path))) for path in paths]
    return sum(info.duration for info in infos if isinstance(info, AudioInfo))


def measure(paths: list[Path], embedder: Embedder, runs: int, threads: int) -> Table:
    torch.set_num_threads(1)
    seconds = sound_seconds(paths, embedder)
    stages = {
        "decode": decode,
        "resample": resample,
        "front end": front_end,
        "network": network,
    }
    total = 0.0
    table = Table("stage", "share %", "x real time alone")
    times = {name: median_seconds(stage, paths, embedder, runs) for name, stage in stages.items()}
    last = times["network"]
    for name, spent in times.items():
        alone = max(spent - total, 1e-9)
        table.add_row(name, f"{100 * alone / last:.0f}", f"{seconds / alone:.0f}")
        total = spent
    table.add_row("one thread of work", "100", f"{seconds / last:.0f}")
    torch.set_num_threads(threads)
    together = median_seconds(whole, paths, embedder, runs)
    table.add_row(
        f"whole, {threads} threads", f"{100 * together / last:.0f}", f"{seconds / together:.0f}"
    )
    table.caption = (
        f"{embedder.card.name}: {len(paths)} files, {seconds:.0f} s of sound, median of {runs} runs"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", default="coala-esc10")
    parser.add_argument("--threads", type=int, default=2, help="of the whole")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each built-in sound")
    options = parser.parse_args()
    embedder = load_model(options.model)
    print(f"{platform.machine()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            write_sounds(folder, options.seconds)
        Console().print(measure(find_audio(folder), embedder, options.runs, options.threads))


if __name__ == "__main__":
    main()
