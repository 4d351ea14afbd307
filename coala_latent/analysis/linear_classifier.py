"""A linear classifier of recordings by the mean of its decision values over their rows.

sound-eval's classifiers answer for a whole recording, from its one vector or from the mean over
time of what is said about each of its vectors. Here a row counts by the seconds it heard, in the
mean and in training, where every recording counts the same; nothing is padded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from coala_latent.analysis.classifiers import make_probe
from coala_latent.errors import ConfigError, DataError

__all__ = ["LINEAR", "LinearClassifier", "fit_linear", "row_weights"]

# Of `PROBES`, those that are one matrix in the end.
LINEAR = ("linear_svm", "logistic")

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Decision values ``weight @ x + bias``; the largest is the answer.

    Attributes:
        kind: Of `LINEAR`.
        classes: Names, sorted.
        weight: ``(classes, dim)`` float64, with the standardisation in it.
        bias: ``(classes,)`` float64.
        converged: Whether the fit ended by itself.
    """

    kind: str
    classes: tuple[str, ...]
    weight: Doubles = field(repr=False)
    bias: Doubles = field(repr=False)
    converged: bool = True

    def decisions(
        self, rows: npt.ArrayLike, file: Indices | None = None, weights: Doubles | None = None
    ) -> Doubles:
        """Decision values of rows or recordings.

        Args:
            rows: ``(n, dim)``.
            file: ``(n,)`` recording of each row, from 0 on, every number at least once; None
                gives the rows' own values.
            weights: ``(n,)`` of the rows in their recording's mean; see `row_weights`.

        Returns:
            ``(n, classes)`` or ``(recordings, classes)``.

        Raises:
            DataError: Rows of another width, or not finite.
        """
        x = _checked(rows)
        if x.shape[1] != self.weight.shape[1]:
            raise DataError(
                f"rows of {x.shape[1]} values; the classifier is for {self.weight.shape[1]}"
            )
        values = x @ self.weight.T + self.bias
        if file is None:
            return np.asarray(values)
        each = np.ones(len(x)) if weights is None else weights
        total = np.bincount(file, weights=each)
        sums = [np.bincount(file, weights=each * column) for column in values.T]
        return np.stack(sums, axis=1) / total[:, None]

    def probabilities(self, decisions: Doubles) -> Doubles | None:
        """Softmax of logistic regression's decision values; an SVM has no probabilities."""
        return np.asarray(softmax(decisions, axis=1)) if self.kind == "logistic" else None


def row_weights(file: Indices, seconds: Doubles) -> Doubles:
    """Share of each row in its recording, by the seconds it heard; sums to 1 for each recording.

    Rows of a recording of which none heard anything count alike.

    Args:
        file: ``(n,)`` recording of each row, from 0 on.
        seconds: ``(n,)``.
    """
    total = np.bincount(file, weights=seconds)[file]
    rows = np.bincount(file)[file]
    shares = np.divide(seconds, total, out=np.zeros_like(seconds), where=total > 0)
    return np.where(total > 0, shares, 1.0 / rows)


def fit_linear(
    kind: str,
    rows: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: Doubles | None = None,
    seed: int = 0,
) -> LinearClassifier:
    """Fit on standardised rows.

    Args:
        kind: ``"linear_svm"`` or ``"logistic"``; see `PROBES` for their settings.
        rows: ``(n, dim)``.
        labels: ``(n,)`` names of classes.
        weights: ``(n,)``, how much each row counts; brought to a mean of 1.
        seed: Of the SVM's coordinate descent.

    Raises:
        ConfigError: Unknown kind.
        DataError: Rows that are not finite, other lengths, or fewer than two classes.
    """
    if kind not in LINEAR:
        raise ConfigError(f"no linear classifier {kind!r}; there are {', '.join(LINEAR)}")
    x = _checked(rows)
    classes, y = np.unique(np.asarray(labels), return_inverse=True)
    if len(x) != len(y):
        raise DataError(f"{len(x)} rows but {len(y)} labels")
    if len(classes) < 2:
        raise DataError(f"{len(classes)} class(es): a classifier needs at least two")
    scaler = StandardScaler().fit(x)
    coefficients, intercept, converged = _fit(kind, scaler.transform(x), y, weights, seed)
    if len(classes) == 2:
        # One value for the second class: the other's is as far on the other side. Half of it each,
        # so that the softmax is logistic regression's probability.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight = coefficients / scaler.scale_
    return LinearClassifier(
        kind=kind,
        classes=tuple(str(name) for name in classes.tolist()),
        weight=weight,
        bias=intercept - weight @ scaler.mean_,
        converged=converged,
    )


def _fit(
    kind: str, x: Doubles, y: npt.NDArray[np.intp], weights: Doubles | None, seed: int
) -> tuple[Doubles, Doubles, bool]:
    """Coefficients and intercepts for standardised rows, and whether the fit converged."""
    basis = None
    if x.shape[1] > len(x):
        # What is orthogonal to all rows has weight 0: less to compute, same answer. It also makes
        # liblinear solve the primal problem, which converges where the dual one may not.
        basis, _ = np.linalg.qr(x.T)
        x = x @ basis
    linear = make_probe(kind, seed)[-1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        linear.fit(x, y, None if weights is None else weights / weights.mean())
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coefficients = linear.coef_ if basis is None else linear.coef_ @ basis.T
    return coefficients, linear.intercept_, converged


def _checked(rows: npt.ArrayLike) -> Doubles:
    x = np.asarray(rows, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise DataError(f"expected rows (n, dim), got shape {x.shape}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise DataError(
            f"row {int(np.argmin(finite))} is not finite: embed its sound again, or leave it out"
        )
    return x
