"""The classifiers that probe features, each with its preprocessing, and the choice of C.

``mlp`` is the protocol of the COALA paper (Favory et al., 2020, section 4): standardisation and
scikit-learn's ``MLPClassifier(hidden_layer_sizes=(256,))``, repeated with several seeds.
``soundnet_svm`` is the classifier of SoundNet's evaluation (Aytar et al., 2016): liblinear's
one-against-all SVM with squared hinge loss and C = 0.01, on features as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from coala_latent.analysis.folds import Fold
from coala_latent.errors import ConfigError

__all__ = ["NEIGHBORS", "PROBES", "SEEDED", "SVM_GRID", "choose_c", "fit_predict", "make_probe"]

NEIGHBORS = 5
SEEDED = frozenset({"mlp"})  # another seed gives another answer
SVM_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

PROBES: dict[str, str] = {
    "mlp": "the paper's protocol: StandardScaler, MLPClassifier(hidden_layer_sizes=(256,))",
    "logistic": "StandardScaler, LogisticRegression(C=0.1)",
    "linear_svm": "StandardScaler, LinearSVC(C=1.0)",
    "knn": f"rows of unit length, {NEIGHBORS} nearest neighbours by cosine",
    "svm": "StandardScaler, LinearSVC; C from 0.00001 to 1 chosen by the other folds",
    "soundnet_svm": "SoundNet's classifier: LinearSVC(C=0.01), not standardised",
}

_SVM_ITERATIONS = 20_000


def make_probe(
    name: str,
    seed: int = 0,
    *,
    hidden_layer_sizes: tuple[int, ...] = (256,),
    logistic_c: float = 0.1,
    svm_c: float = 1.0,
    n_neighbors: int = NEIGHBORS,
) -> Pipeline:
    """An unfitted classifier with its preprocessing.

    Args:
        name: One of `PROBES`.
        seed: Seed of the MLP's initial weights and batches, and of the SVM's coordinate descent.
        hidden_layer_sizes: Of ``mlp``; everything else is scikit-learn's default.
        logistic_c: Inverse strength of the L2 penalty of ``logistic``.
        svm_c: Likewise of ``linear_svm`` and ``svm``; for the latter see `choose_c`.
        n_neighbors: Of ``knn``. A row of zeros has cosine 0 to every other.

    Raises:
        ConfigError: Unknown name.
    """
    if name == "mlp":
        classifier = MLPClassifier(hidden_layer_sizes=hidden_layer_sizes, random_state=seed)
        return make_pipeline(StandardScaler(), classifier)
    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=logistic_c, max_iter=5000))
    if name in ("linear_svm", "svm"):
        return make_pipeline(StandardScaler(), _linear_svm(svm_c, seed))
    if name == "soundnet_svm":
        return make_pipeline(_linear_svm(0.01, seed))
    if name == "knn":
        neighbours = KNeighborsClassifier(n_neighbors, metric="cosine", algorithm="brute")
        return make_pipeline(Normalizer(), neighbours)
    raise ConfigError(f"unknown probe {name!r}: choose one of {', '.join(PROBES)}")


def _linear_svm(c: float, seed: int, dual: bool | Literal["auto"] = "auto") -> LinearSVC:
    return LinearSVC(C=c, dual=dual, max_iter=_SVM_ITERATIONS, random_state=seed)


def choose_c(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.intp],
    inner: Sequence[Fold],
    grid: Sequence[float] = SVM_GRID,
    seed: int = 0,
) -> float:
    """The C with which a linear SVM on standardised features finds most of the held-out items.

    Args:
        x: ``(n, dim)`` features.
        y: ``(n,)`` classes.
        inner: Splits within the training items of the fold that is to be tested.
        grid: Values to choose from.
        seed: Seed of the coordinate descent.

    Returns:
        The best value; of several equally good the smallest, which penalises most.

    Raises:
        ConfigError: Nothing to choose from or to choose by.
    """
    usable = [fold for fold in inner if len(np.unique(y[fold.train])) > 1]
    if not usable or not grid:
        raise ConfigError(
            "C needs a value to choose from and a split with two classes to choose by: "
            "use more folds, or linear_svm"
        )
    ascending = sorted(grid)
    found = np.zeros(len(ascending))
    for fold in usable:
        scaler = StandardScaler().fit(x[fold.train])
        train, test = scaler.transform(x[fold.train]), scaler.transform(x[fold.test])
        if train.shape[1] > len(train):
            # What is orthogonal to all training items has weight 0: less to compute, same answer.
            basis, _ = np.linalg.qr(train.T)
            train, test = train @ basis, test @ basis
        # By far the faster problem unless there are few features, where it may not converge.
        dual = 2 * train.shape[1] > len(train)
        for number, c in enumerate(ascending):
            svm = make_pipeline(_linear_svm(c, seed, dual))
            predicted, _ = fit_predict(svm, train, y[fold.train], test)
            found[number] += (predicted == y[fold.test]).sum()
    return float(ascending[int(np.argmax(found))])


def fit_predict(
    pipeline: Pipeline,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.intp],
    test: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], bool]:
    """Fits on ``(n, dim)`` and ``(n,)``; predicted classes of `test`, and whether it converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(x, y)
    converged = True
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            converged = False
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return pipeline.predict(test), converged
