"""``us8k``, ``gtzan``, ``nsynth``, ``esc50`` and ``esc10``: scores on public benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from coala_latent.cli.options import probe_options
from coala_latent.cli.probe import Scored, deliver, load_embedders, score_layers
from coala_latent.errors import ConfigError
from coala_latent.tasks.progress import console

__all__ = [
    "esc10_command",
    "esc50_command",
    "gtzan_command",
    "nsynth_command",
    "us8k_command",
]

_EPILOG = (
    "mlp, logistic, linear_svm and knn are the probes unless --probe names some; with --layers "
    "svm and knn, on a single split linear_svm and knn. "
    "Exit status: 0 all good, 1 some sounds could not be used, 2 could not run, 130 interrupted. "
    "Sounds left out by --allow-missing are reported, and no failure."
)


def _score_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option(
        "--allow-missing",
        is_flag=True,
        help="Leave out sounds that the data set lists and that are not there.",
    )(probe_options(function))
    function = click.option(
        "--embeddings",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Folder of .npy files as COALA's encode.py left them, or of several models' folders "
        "embeddings_MODEL; may be repeated. MFCC only with --baseline then.",
    )(function)
    return click.argument("folder", type=click.Path(path_type=Path))(function)


@click.command("us8k", epilog=_EPILOG)
@_score_options
@click.pass_context
def us8k_command(context: click.Context, folder: Path, **options: Any) -> None:
    """Score embeddings on UrbanSound8K with its own ten folds.

    FOLDER has metadata/UrbanSound8K.csv and audio/fold1 to fold10, or is the `data` above it.
    """
    from coala_latent.data.layouts import read_us8k

    context.exit(_run(context, read_us8k, "us8k", folder, options))


@click.command("gtzan", epilog=_EPILOG)
@_score_options
@click.option(
    "--train-list",
    type=click.Path(path_type=Path),
    help="The fault-filtered training list; train_filtered.txt in or beside the genres by default.",
)
@click.option(
    "--test-list",
    type=click.Path(path_type=Path),
    help="Likewise the test list; test_filtered.txt by default.",
)
@click.option(
    "--lists",
    type=click.Choice(["corrected", "legacy"]),
    default="corrected",
    show_default=True,
    help="legacy loses the first line of each list, as the original evaluation did.",
)
@click.pass_context
def gtzan_command(
    context: click.Context,
    folder: Path,
    train_list: Path | None,
    test_list: Path | None,
    lists: Any,
    **options: Any,
) -> None:
    """Score embeddings on GTZAN with the fault-filtered training and test lists.

    FOLDER has a folder for each genre, or is the `data` above GTZAN/genres.
    """
    from coala_latent.data.layouts import read_gtzan

    def read(root: Path, **how: Any) -> Any:
        return read_gtzan(root, train_list, test_list, lists=lists, **how)

    context.exit(_run(context, read, "gtzan", folder, options, {"lists": lists}))


@click.command("nsynth", epilog=_EPILOG)
@_score_options
@click.option(
    "--selection",
    required=True,
    type=click.Path(path_type=Path),
    help="JSON file of the training notes: {family: [note, ...]}.",
)
@click.pass_context
def nsynth_command(context: click.Context, folder: Path, selection: Path, **options: Any) -> None:
    """Score embeddings on the ten instrument families of NSynth's test set.

    FOLDER has nsynth-train (audio_selected or audio) and nsynth-test, or is the `data` above
    nsynth.
    """
    from coala_latent.data.layouts import read_nsynth

    def read(root: Path, **how: Any) -> Any:
        return read_nsynth(root, selection, **how)

    context.exit(_run(context, read, "nsynth", folder, options, split=True))


@click.command("esc50", epilog=_EPILOG)
@_score_options
@click.pass_context
def esc50_command(context: click.Context, folder: Path, **options: Any) -> None:
    """Score embeddings on ESC-50 with its own five folds.

    FOLDER has meta/esc50.csv and audio, or a folder a class.
    """
    from coala_latent.data.layouts import read_esc50

    context.exit(_run(context, read_esc50, "esc50", folder, options))


@click.command("esc10", epilog=_EPILOG)
@_score_options
@click.pass_context
def esc10_command(context: click.Context, folder: Path, **options: Any) -> None:
    """Score embeddings on ESC-10 with its own five folds.

    FOLDER has a folder a class, or is ESC-50 (meta/esc50.csv and audio). With --layers every layer
    of the models is scored, and drawn with --pictures.
    """
    from coala_latent.data.layouts import read_esc10

    context.exit(_run(context, read_esc10, "esc10", folder, options))


def _run(
    context: click.Context,
    read: Callable[..., Any],
    data_set: str,
    folder: Path,
    options: dict[str, Any],
    settings: dict[str, Any] | None = None,
    *,
    split: bool = False,
) -> int:
    from coala_latent.tasks.score_tables import notes

    if options["layers"] and options["embeddings"]:
        raise ConfigError("--layers scores layers of models, --embeddings holds one: give one")
    named = context.get_parameter_source("baseline") is not ParameterSource.DEFAULT
    baseline = options["baseline"] and (named or not options["embeddings"])
    stored = _stored(options["embeddings"], data_set, split)
    silent = bool(stored) and not options["models"] and not baseline
    benchmark = read(
        folder,
        vectors=next(iter(stored.values())) if silent else None,
        allow_missing=options["allow_missing"],
    )

    def compute() -> Scored:
        if options["layers"]:
            result, tables = _layers(benchmark, options)
        else:
            result, tables = _embeddings(benchmark, stored, {**options, "baseline": baseline})
        result |= settings or {}
        for note in notes(result):
            console().print(note, markup=False, soft_wrap=True)
        return result, tables

    return deliver(compute, options)


def _stored(folders: tuple[Path, ...], data_set: str, split: bool) -> dict[str, Any]:
    """Stored embeddings by name; those of equal names by their folders."""
    from coala_latent.data.layouts import find_embeddings

    found = [one for folder in folders for one in find_embeddings(folder, data_set, split=split)]
    names = [one.name for one in found]
    return {
        name if names.count(name) == 1 else str(next(iter(one.folders.values()))): one
        for name, one in zip(names, found, strict=True)
    }


def _embeddings(benchmark: Any, stored: dict[str, Any], options: dict[str, Any]) -> Scored:
    from coala_latent.tasks.score_tables import score_tables
    from coala_latent.tasks.scores import PROBES, score

    models = load_embedders(options)
    if both := set(models) & set(stored):
        raise ConfigError(f"{min(both)} names a model and embeddings: rename the folder")
    result = score(
        benchmark,
        models,
        stored,
        probes=options["probes"] or PROBES,
        runs=options["runs"],
        seed=options["seed"],
        baseline=options["baseline"],
        clip_mean=options["clip_mean"],
        allow_missing=options["allow_missing"],
        quiet=options["quiet"],
    )
    return result, score_tables(result)


def _layers(benchmark: Any, options: dict[str, Any]) -> Scored:
    from coala_latent.tasks.scores import about, as_sounds, folds_of

    if benchmark.fixed and "svm" in options["probes"]:
        raise ConfigError("svm chooses its penalty by folds, and this is one split: use linear_svm")
    probes = ("linear_svm", "knn") if benchmark.fixed else ("svm", "knn")
    result, tables = score_layers(as_sounds(benchmark), folds_of(benchmark), options, probes)
    return {**result, **about(benchmark)}, tables
