"""``coala-latent classify``: linear classifiers of a store's recordings, tested by held-out folds.

A recording is heard as one vector, or row by row: then each row is classified and the recording's
answer is the mean of the decision values, weighted by the seconds the rows heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

import coala_latent
from coala_latent.analysis.confusion import Confusion, confusion_matrix
from coala_latent.analysis.folds import Fold, grouped_folds
from coala_latent.analysis.linear_classifier import (
    LINEAR,
    LinearClassifier,
    fit_linear,
    row_weights,
)
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.classifier_files import SavedClassifier, load_classifier, save_classifier
from coala_latent.tasks.classify_files import Answers, write_results
from coala_latent.tasks.labelled import captured_group, printable
from coala_latent.tasks.pictures import require_matplotlib
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.recording_labels import LabelSource, recording_labels, table_labels
from coala_latent.tasks.recordings import PointsBy, RecordingVectors, recording_vectors

__all__ = ["ClassifyOptions", "apply_classifier", "classify"]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassifyOptions:
    """What is classified, by what, and how it is tested.

    Attributes:
        labels: A table, or ``"folders"``.
        column: Of the table.
        key: Heading of the table's column that names the recordings.
        by: Hear a recording as one vector (``"files"``) or row by row (``"rows"``).
        classifiers: Of `LINEAR`.
        folds: How many.
        group: Regular expression searched in each recording's file name without suffix; what its
            first group captures stays on one side of every split.
        group_column: Column of the table whose values stay on one side instead: the artist.
        seed: Of folds and classifiers.
        picture: Draw the confusion matrices.
    """

    labels: LabelSource
    column: str | None = None
    key: str | None = None
    by: PointsBy = "files"
    classifiers: tuple[str, ...] = LINEAR
    folds: int = 5
    group: str | None = None
    group_column: str | None = None
    seed: int = 0
    picture: bool = True


@dataclass(frozen=True, eq=False)
class _Recordings:
    """Labelled recordings and their rows.

    Attributes:
        names: Of the recordings.
        labels: ``(recordings,)`` numbers of `classes`.
        classes: Names, sorted.
        values: ``(n, dim)`` rows.
        file: ``(n,)`` recording of each row.
        weights: ``(n,)`` share of each row in its recording.
    """

    names: list[str]
    labels: Indices
    classes: tuple[str, ...]
    values: npt.NDArray[np.float32]
    file: Indices
    weights: Doubles

    def part(self, recordings: Indices) -> tuple[npt.NDArray[np.float32], Indices, Doubles]:
        """Rows of some recordings: values, place of their recording among these, weights."""
        place = np.full(len(self.names), -1)
        place[recordings] = np.arange(len(recordings))
        rows = place[self.file] >= 0
        return self.values[rows], place[self.file[rows]], self.weights[rows]


def classify(
    store: Path,
    options: ClassifyOptions,
    output: Path | None = None,
    *,
    save: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Cross-validate linear classifiers on labelled recordings.

    Args:
        store: A store, or a folder of document vectors.
        options: See there.
        output: Folder for ``classify.json``, ``predictions.csv``, and for each classifier
            ``confusion_NAME.csv`` and ``.png``.
        save: File for the classifier, trained on all recordings; needs a single one.
        quiet: No progress bar.

    Returns:
        What ``classify.json`` holds. Classes with fewer recordings (or groups) than folds are
        listed under ``set_aside`` and neither trained nor tested.

    Raises:
        ConfigError: Options contradict each other.
        DataError: Fewer than two classes are left, or labels cannot be had.
        DependencyError: A picture is wanted, and matplotlib is not installed.
        StoreError: The store cannot be read.
    """
    _check(options, output, save)
    points = recording_vectors(store, options.by)
    found = recording_labels(points.names, options.labels, options.column, options.key)
    groups = _groups(points.names, options)
    aside = _too_few(found, groups, options.folds)
    kept = [n for n, label in enumerate(found) if label is not None and label not in aside]
    used = _take(points, kept, [str(found[n]) for n in kept])
    folds = grouped_folds(
        np.array(used.classes)[used.labels], [groups[n] for n in kept], options.folds, options.seed
    )
    answers, unconverged = _cross_validated(used, folds, options, quiet)
    fractions = [len(fold.test) / len(kept) for fold in folds]
    confusions = {
        kind: Confusion.of_folds(
            used.classes, [each.table(used, fold.test) for fold in folds], float(np.mean(fractions))
        )
        for kind, each in answers.items()
    }
    about = _about(points, options)
    scores = {kind: confusion.to_dict() for kind, confusion in confusions.items()}
    result = {
        **about,
        "classified": len(kept),
        "without_label": sum(label is None for label in found),
        "set_aside": {printable(name): count for name, count in sorted(aside.items())},
        "groups": len({groups[n] for n in kept}),
        "unconverged": unconverged,
        "classifiers": scores,
    }
    if output is not None:
        told = {kind: each.answers(used) for kind, each in answers.items()}
        write_results(output, result, used.names, told, confusions, options.picture)
    if save is not None:
        (kind,) = options.classifiers
        classifier = _fit(kind, used, np.arange(len(kept)), options.seed)
        about = {"column": options.column, "recordings": len(kept), "scores": scores[kind]}
        save_classifier(save, SavedClassifier(classifier, points.identity, options.by, about))
    return result


def _check(options: ClassifyOptions, output: Path | None, save: Path | None) -> None:
    """What would only show after the work."""
    if output is not None and options.picture:
        require_matplotlib()
    if save is not None and len(options.classifiers) != 1:
        raise ConfigError("one classifier is saved: name it with --classifier")
    if save is not None and save.suffix != ".safetensors":
        raise ConfigError(f"{save}: name it .safetensors")
    if options.group is not None and options.group_column is not None:
        raise ConfigError("groups come from names or from a column: give one of them")
    if options.group_column is not None and options.labels == "folders":
        raise ConfigError("a column of groups needs a table as labels")


def _groups(names: Sequence[str], options: ClassifyOptions) -> list[str]:
    """A group for each recording: its own where there are no others."""
    if options.group_column is not None:
        assert isinstance(options.labels, Path)
        found = table_labels(names, options.labels, options.group_column, options.key)
        return [
            f"file {name}" if group is None else f"group {group}"
            for name, group in zip(names, found, strict=True)
        ]
    if options.group is None:
        return [f"file {name}" for name in names]
    return [f"group {captured_group(options.group, PurePosixPath(name))}" for name in names]


def _too_few(labels: Sequence[str | None], groups: Sequence[str], folds: int) -> dict[str, int]:
    """Classes with fewer groups than folds, and how many recordings they have."""
    if folds < 2:
        raise ConfigError(f"folds={folds} must be at least 2")
    pairs = {(label, group) for label, group in zip(labels, groups, strict=True) if label}
    sources = Counter(label for label, _ in pairs)
    items = Counter(label for label in labels if label)
    aside = {str(label): items[label] for label, count in sources.items() if count < folds}
    if len(sources) - len(aside) < 2:
        raise DataError(
            f"{len(sources) - len(aside)} class(es) with {folds} or more recordings (or groups) of "
            f"{len(sources)}: two are needed (use fewer folds, or more sounds)"
        )
    return aside


def _take(points: RecordingVectors, kept: Sequence[int], labels: Sequence[str]) -> _Recordings:
    classes = sorted(set(labels))
    place = np.full(len(points.files), -1)
    place[list(kept)] = np.arange(len(kept))
    rows = place[points.file] >= 0
    file = place[points.file[rows]]
    return _Recordings(
        names=[points.names[number] for number in kept],
        labels=np.array([classes.index(label) for label in labels], dtype=np.int64),
        classes=tuple(classes),
        values=points.values[rows],
        file=file,
        weights=row_weights(file, (points.end - points.start)[rows]),
    )


def _fit(kind: str, used: _Recordings, recordings: Indices, seed: int) -> LinearClassifier:
    values, of, weights = used.part(recordings)
    labels = np.array(used.classes)[used.labels[recordings][of]]
    # One row a recording: all weigh the same, and the fit is that of `analysis.probes`.
    alone = len(values) == len(recordings)
    return fit_linear(kind, values, labels, None if alone else weights, seed)


@dataclass(frozen=True, eq=False)
class _Tested:
    """Decision values ``(recordings, classes)`` and fold ``(recordings,)`` of each."""

    decisions: Doubles
    fold: Indices

    def table(self, used: _Recordings, some: Indices) -> Indices:
        """Confusion matrix of some recordings."""
        said = self.decisions[some].argmax(axis=1)
        return confusion_matrix(used.labels[some], said, len(used.classes))

    def answers(self, used: _Recordings) -> Answers:
        """In words."""
        names = list(used.classes)
        return Answers(
            said=[names[place] for place in self.decisions.argmax(axis=1)],
            scores=self.decisions.max(axis=1),
            labels=[names[place] for place in used.labels],
            fold=self.fold,
        )


def _cross_validated(
    used: _Recordings, folds: Sequence[Fold], options: ClassifyOptions, quiet: bool
) -> tuple[dict[str, _Tested], dict[str, int]]:
    """Decision values by classifier, and how many fits stopped early."""
    tested, unconverged = {}, {}
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("classify", total=len(folds) * len(options.classifiers), note="")
        for kind in options.classifiers:
            decisions = np.full((len(used.names), len(used.classes)), -np.inf)
            fold_of = np.empty(len(used.names), np.int64)
            unconverged[kind] = 0
            for number, fold in enumerate(folds):
                classifier = _fit(kind, used, fold.train, options.seed)
                known = np.searchsorted(used.classes, classifier.classes)
                found = classifier.decisions(*used.part(fold.test))
                decisions[np.ix_(fold.test, known)] = found
                fold_of[fold.test] = number
                unconverged[kind] += not classifier.converged
                bar.update(task, advance=1, note=kind)
            tested[kind] = _Tested(decisions, fold_of)
    return tested, unconverged


def _about(points: RecordingVectors, options: ClassifyOptions) -> dict[str, Any]:
    return {
        "store": printable(points.store),
        "identity": asdict(points.identity),
        "recordings": len(points.files),
        "rows": len(points),
        "failed": points.failed,
        "settings": {**asdict(options), "labels": printable(options.labels)},
        "version": coala_latent.__version__,
    }


def apply_classifier(
    model: Path,
    store: Path,
    output: Path | None = None,
    *,
    labels: LabelSource | None = None,
    column: str | None = None,
    key: str | None = None,
    picture: bool = True,
) -> dict[str, Any]:
    """Say the class of every recording of a store by a saved classifier.

    Args:
        model: What ``save`` of `classify` wrote.
        store: Vectors of the same model, layer and settings.
        output: Folder for ``classify.json``, ``predictions.csv`` and, with labels, the confusion
            matrix.
        labels: What the recordings really are, to test the classifier. They must not have been
            among those it was trained on.
        column: Of the table.
        key: Heading of the table's column that names the recordings.
        picture: Draw the confusion matrix.

    Returns:
        What ``classify.json`` holds, and ``predictions``, a dict for each recording.

    Raises:
        WeightsError: The classifier cannot be read.
        StoreMismatchError: It is for other vectors.
        DataError: No recording has a label that the classifier knows.
    """
    if output is not None and labels is not None and picture:
        require_matplotlib()
    saved = load_classifier(model)
    points = recording_vectors(store, saved.by)
    saved.check(points)
    classifier = saved.classifier
    weights = row_weights(points.file, points.end - points.start)
    decisions = classifier.decisions(points.values, points.file, weights)
    places = decisions.argmax(axis=1)
    said = [classifier.classes[place] for place in places]
    probabilities = classifier.probabilities(decisions)
    scores = (decisions if probabilities is None else probabilities).max(axis=1)
    true = None if labels is None else recording_labels(points.names, labels, column, key)
    confusions = {}
    if true is not None:
        number = {name: place for place, name in enumerate(classifier.classes)}
        tested = [n for n, label in enumerate(true) if label in number]
        truth = np.array([number[str(true[n])] for n in tested], dtype=np.int64)
        table = confusion_matrix(truth, places[tested], len(number))
        confusions[classifier.kind] = Confusion.of_test(classifier.classes, table)
    result = {
        "store": printable(points.store),
        "classifier": printable(model),
        "kind": classifier.kind,
        "classes": list(classifier.classes),
        "recordings": len(points.files),
        "failed": points.failed,
        "unknown_labels": sorted(
            {label for label in true or () if label} - set(classifier.classes)
        ),
        "classifiers": {kind: confusion.to_dict() for kind, confusion in confusions.items()},
    }
    answers = Answers(said, scores, true, None)
    if output is not None:
        told = {classifier.kind: answers}
        write_results(output, result, points.names, told, confusions, picture)
    return {**result, "predictions": list(_predictions(points.names, answers))}


def _predictions(names: Sequence[str], answers: Answers) -> Iterator[dict[str, Any]]:
    for name, said, score in zip(names, answers.said, answers.scores.tolist(), strict=True):
        yield {"path": printable(name), "class": printable(said), "score": score}
