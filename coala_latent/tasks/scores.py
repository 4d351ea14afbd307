"""``coala-latent us8k``, ``gtzan``, ``nsynth``, ``esc50`` and ``esc10``: scores on benchmarks.

The protocol is that of the COALA paper (Favory et al., 2020, section 4), on the data sets' own
folds or split: standardised features, an MLP of 256 units, 10 runs; and simpler probes beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.clips import Weighting
from coala_latent.analysis.folds import Fold, fixed_folds
from coala_latent.analysis.held_out import Pairs, compare_folds, compare_held_out, run_held_out
from coala_latent.analysis.probes import Progress, run_probe
from coala_latent.analysis.statistics import mean_interval
from coala_latent.data.layouts import Benchmark, EmbeddingSet, load_vector
from coala_latent.data.layouts.benchmark import TEST, TRAIN
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import LabelledSounds, printable, summary_of, usable
from coala_latent.tasks.probe import clip_features, mfcc_features
from coala_latent.tasks.progress import progress_bar

__all__ = ["PROBES", "about", "as_sounds", "folds_of", "score"]

PROBES = ("mlp", "logistic", "linear_svm", "knn")
_NAMED = 20  # of the missing files, in a result


def score(
    benchmark: Benchmark,
    embedders: Mapping[str, Embedder],
    embeddings: Mapping[str, EmbeddingSet] | None = None,
    *,
    probes: Sequence[str] = PROBES,
    runs: int = 10,
    seed: int = 0,
    baseline: bool = True,
    clip_mean: Weighting | None = None,
    allow_missing: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Embed, average each clip, and classify with the benchmark's own folds or split.

    Args:
        benchmark: From `coala_latent.data.layouts`; of sounds, unless there are only `embeddings`.
        embedders: Models by the name in the table.
        embeddings: Stored embeddings by the name in the table.
        probes: See `analysis.probes.PROBES`.
        runs: Repetitions of the probes that depend on a seed.
        seed: Of the probes.
        baseline: Add the 120 MFCC statistics.
        clip_mean: As in `tasks.probe.probe`; of models alone.
        allow_missing: Leave out sounds that `embeddings` do not have.
        quiet: No progress bars.

    Returns:
        JSON-able results, as of `tasks.probe.probe`; each of ``comparisons`` has further ``pairs``,
        the differences of any two feature sets, and each of its results the scatter over runs.

    Raises:
        ConfigError: Nothing to score, or a probe that does not suit the split.
        DataError: Missing embeddings, or sounds that cannot be split or used.
    """
    if not (baseline or embedders or embeddings):
        raise ConfigError("nothing to score: name a model or embeddings, or keep the baseline")
    if benchmark.fixed and "svm" in probes:
        raise ConfigError("svm chooses its penalty by folds, and this is one split: use linear_svm")
    sounds, folds = as_sounds(benchmark), folds_of(benchmark)
    folds(sounds)  # so that what is wrong with them shows before the long work
    features: dict[str, npt.NDArray[np.floating]] = {}
    skipped: dict[str, str] = {}
    absent: dict[str, list[str]] = {}
    for name, stored in (embeddings or {}).items():
        features[name], bad, absent[name] = _stored(benchmark, name, stored, allow_missing)
        skipped |= bad
    if baseline:
        mfcc, bad = mfcc_features(sounds, quiet)
        features = {"mfcc": mfcc, **features}
        skipped |= bad
    for name, embedder in embedders.items():
        features[name], bad = clip_features(sounds, embedder, clip_mean, quiet)
        skipped |= bad
    unembedded = {path: "not embedded" for paths in absent.values() for path in paths}
    keep = usable(sounds, unembedded | skipped)
    used = sounds.take(keep)
    kept = {name: values[keep] for name, values in features.items()}
    made = folds(used)
    return {
        **summary_of(used, made, seed, skipped),
        **about(benchmark),
        "missing": _counted({"sounds": benchmark.missing, **absent}),
        "models": {
            **{name: {"folder": printable(one.root)} for name, one in (embeddings or {}).items()},
            **{name: _describe(embedder) for name, embedder in embedders.items()},
        },
        "comparisons": _compare(kept, used, made, benchmark.fixed, probes, runs, seed, quiet),
    }


def as_sounds(benchmark: Benchmark) -> LabelledSounds:
    """The benchmark's files with their labels and groups."""
    return LabelledSounds(benchmark.root, list(benchmark.paths), benchmark.labels, benchmark.groups)


def folds_of(benchmark: Benchmark) -> Callable[[LabelledSounds], list[Fold]]:
    """What makes the benchmark's folds, or its one split, of any part of its files."""
    parts = dict(zip(benchmark.paths, benchmark.parts.tolist(), strict=True))

    def make(sounds: LabelledSounds) -> list[Fold]:
        ids = np.array([parts[path] for path in sounds.paths])
        if not benchmark.fixed:
            return fixed_folds(ids)
        return [Fold(TEST, np.flatnonzero(ids == TRAIN), np.flatnonzero(ids == TEST))]

    return make


def about(benchmark: Benchmark) -> dict[str, Any]:
    """What the data set lists, for JSON."""
    return {
        "benchmark": benchmark.name,
        "parts": dict(sorted(Counter(benchmark.parts.tolist()).items())),
        "published": benchmark.published,
        "found": benchmark.found,
        "left_out": benchmark.left_out,
        "missing": _counted({"sounds": benchmark.missing}),
    }


def _stored(
    benchmark: Benchmark, name: str, stored: EmbeddingSet, allow_missing: bool
) -> tuple[npt.NDArray[np.floating], dict[str, str], list[str]]:
    """Vectors ``(n, dim)``, NaN where there is none; ``path: reason`` of bad ones; missing ones."""
    found: dict[int, npt.NDArray[np.float32]] = {}
    skipped: dict[str, str] = {}
    absent: list[str] = []
    parts = benchmark.parts.tolist() if benchmark.fixed else [""] * len(benchmark.paths)
    for number, (path, part) in enumerate(zip(benchmark.paths, parts, strict=True)):
        file = stored.files(part).find(path.name)
        if file is None:
            absent.append(str(path))
            continue
        try:
            found[number] = load_vector(file)
        except DataError as error:
            skipped[str(path)] = f"{file.name} of {name}: {error}"
    if absent and not allow_missing:
        raise DataError(
            f"{name}: {len(absent)} of {len(parts)} sounds have no .npy file in {stored.root}, the "
            f"first {Path(absent[0]).name} (embed them, or leave them out with --allow-missing)"
        )
    if not found:
        raise DataError(f"{name}: no usable embedding in {stored.root}")
    dim = Counter(len(vector) for vector in found.values()).most_common(1)[0][0]
    rows = np.full((len(parts), dim), np.nan, np.float32)
    for number, vector in found.items():
        if len(vector) == dim:
            rows[number] = vector
        else:
            path = benchmark.paths[number]
            skipped[str(path)] = f"{name}: {len(vector)} values where the others have {dim}"
    return rows, skipped, absent


def _compare(
    features: Mapping[str, npt.NDArray[np.floating]],
    used: LabelledSounds,
    folds: Sequence[Fold],
    fixed: bool,
    probes: Sequence[str],
    runs: int,
    seed: int,
    quiet: bool,
) -> dict[str, Any]:
    run = _held_out if fixed else _cross_validated
    comparisons = {}
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("probe", total=len(probes) * len(features), note="")
        for kind in probes:

            def show(done: int, total: int, kind: str = kind) -> None:
                bar.update(task, note=f"{kind}: fit {done} of {total}")
                if done == total:
                    bar.update(task, advance=1)

            results, pairs = run(features, used, folds, kind, runs, seed, show)
            reference = next(iter(features))
            comparisons[kind] = {
                "results": results,
                "reference": reference,
                "differences": {
                    later: next(iter(tests.values())).to_dict()
                    for (later, earlier), tests in pairs.items()
                    if earlier == reference
                },
                "pairs": [
                    {"a": later, "b": earlier, **{by: test.to_dict() for by, test in tests.items()}}
                    for (later, earlier), tests in pairs.items()
                ],
            }
    return comparisons


def _cross_validated(
    features: Mapping[str, npt.NDArray[np.floating]],
    used: LabelledSounds,
    folds: Sequence[Fold],
    probe: str,
    runs: int,
    seed: int,
    show: Progress,
) -> tuple[dict[str, Any], Pairs]:
    results = {
        name: run_probe(values, used.labels, folds, probe, runs, seed, show)
        for name, values in features.items()
    }
    described = {
        name: {
            **result.to_dict(),
            **_over_runs(result.accuracy.mean(axis=1)),
        }
        for name, result in results.items()
    }
    return described, compare_folds(results)


def _held_out(
    features: Mapping[str, npt.NDArray[np.floating]],
    used: LabelledSounds,
    folds: Sequence[Fold],
    probe: str,
    runs: int,
    seed: int,
    show: Progress,
) -> tuple[dict[str, Any], Pairs]:
    results = {
        name: run_held_out(
            values, used.labels, folds[0], probe, runs, seed, groups=used.groups, progress=show
        )
        for name, values in features.items()
    }
    described = {
        name: {
            **found.result.to_dict(),
            **_over_runs(found.result.accuracy[:, 0]),
            "over_groups": found.over_groups.to_dict() if found.over_groups else None,
        }
        for name, found in results.items()
    }
    return described, compare_held_out(results)


def _over_runs(scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Scatter over the runs; papers give the population standard deviation ``runs_sd``."""
    return {"over_runs": mean_interval(scores).to_dict(), "runs_sd": float(scores.std())}


def _describe(embedder: Embedder) -> dict[str, Any]:
    return {
        "model": embedder.card.name,
        "sha256": embedder.card.sha256,
        "layer": embedder.layer,
        "pooling": embedder.pooling,
    }


def _counted(missing: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        what: {"count": len(names), "first": [printable(name) for name in names[:_NAMED]]}
        for what, names in missing.items()
    }
