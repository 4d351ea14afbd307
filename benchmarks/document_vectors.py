"""What document vectors of sound are worth, beside mean log-mel frames and COALA.

    python benchmarks/document_vectors.py retrieval FOLDER [--parts 6] [--seeds 1 2 3]
    python benchmarks/document_vectors.py probe ESC-FOLDER [--seeds 1 2 3]

``retrieval`` cuts each recording into equal parts, which become documents of their own, and asks
how often the nearest other part by cosine is of the same recording (and the mean average
precision). ``probe`` fits logistic regression to the clips' vectors on the folds in ESC's file
names. Every seed is a training of its own, on the same frames as the mean; nothing of the labels is
used in it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from coala_latent.analysis.folds import fixed_folds
from coala_latent.analysis.probes import run_probe
from coala_latent.audio.io import find_audio, read_audio
from coala_latent.audio.sound_eval import FrameSettings
from coala_latent.data.frame_files import FrameFiles
from coala_latent.embed.embedder import load_model
from coala_latent.tasks.doc2vec import train_doc2vec
from coala_latent.tasks.doc2vec_settings import compose_doc2vec
from coala_latent.tasks.doc2vec_vectors import gather_means, infer_vectors
from coala_latent.tasks.fitting import hush_lightning
from coala_latent.tasks.recordings import recording_vectors
from coala_latent.tasks.spectrify import spectrify

COALA = "coala-builtin"  # has heard none of these sounds
# Four million pairs, at the sizes and rates of the original's default configuration.
ORIGINAL = ["compat=true", "doc2vec=default", "epochs=2"]


def cut(folder, parts, output):
    """Equal parts of every recording as files ``NAME/PART.wav``."""
    for path in find_audio(folder):
        sound = read_audio(path)
        edges = np.linspace(0, sound.samples.shape[-1], parts + 1).astype(int)
        place = output / path.stem
        place.mkdir(parents=True)
        for part in range(parts):
            piece = sound.samples[..., edges[part] : edges[part + 1]]
            soundfile.write(place / f"{part}.wav", piece.T, sound.sample_rate, subtype="FLOAT")
    return output


def in_order(store, names):
    """Vectors of a store in the order of the names."""
    found = recording_vectors(store, "files")
    rows = dict(zip(found.paths, found.values, strict=True))
    return np.stack([rows[name] for name in names])


def features(sounds, work, seeds, settings):
    """Names of the sounds, and for each kind of vector its ``(n, dim)`` by seed."""
    frames = work / "frames"
    spectrify([sounds], frames, FrameSettings(), quiet=True)
    files = FrameFiles(frames)
    means = np.stack([files.read(number).mean(0) for number in range(len(files))])
    embedder = load_model(COALA)
    coala = [embedder.file(sounds / name).mean() for name in files.names]
    found = {"mean log-mel": [means - means.mean(0)], COALA: [np.stack(coala)]}
    for seed in seeds:
        for name, chosen in {"compat": ORIGINAL, "default": []}.items():
            folder = work / f"{name}-{seed}"
            asked = compose_doc2vec([f"seed={seed}", *chosen, *settings])
            train_doc2vec(frames, folder, asked, quiet=True)
            documents = in_order(folder, files.names)
            found.setdefault(f"doc2vec, {name}", []).append(documents)
            if name == "default":
                store = work / f"{name}-{seed}.h5"
                infer_vectors(folder, frames, store, seed=seed)
                inferred = in_order(store, files.names)
                found.setdefault("doc2vec, inferred", []).append(inferred)
                gather_means(frames, folder, work / "words.npy")
                both = [unit(inferred), unit(np.load(work / "words.npy"))]
                found.setdefault("doc2vec, inferred + mean words", []).append(np.hstack(both))
    return files.names, found


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def retrieval(rows, owner):
    """Share whose nearest other row has the same owner, and mean average precision."""
    near = unit(rows) @ unit(rows).T
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, :-1]
    same = owner[order] == owner[:, None]
    ranks = np.arange(1, same.shape[1] + 1)
    precision = (same.cumsum(1) / ranks * same).sum(1) / np.maximum(same.sum(1), 1)
    return float(same[:, 0].mean()), float(precision.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("task", choices=("retrieval", "probe"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args, settings = parser.parse_known_args()
    hush_lightning()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        sounds = args.folder
        if args.task == "retrieval":
            sounds = cut(args.folder, args.parts, work / "sounds")
        names, found = features(sounds, work, args.seeds, settings)
        for kind, tables in found.items():
            if args.task == "retrieval":
                owner = np.array([Path(name).parent.as_posix() for name in names])
                scores = np.array([retrieval(rows, owner) for rows in tables])
            else:
                labels = [Path(name).parent.name for name in names]
                folds = fixed_folds([int(Path(name).name[0]) for name in names])
                scores = np.array([[run_probe(t, labels, folds, "logistic").mean] for t in tables])
            told = {
                "mean": scores.mean(0).round(3).tolist(),
                "lowest": scores.min(0).round(3).tolist(),
                "highest": scores.max(0).round(3).tolist(),
            }
            print(f"{kind:32}", json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
