"""Linear classifiers of recordings and their figures, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from coala_latent.analysis.classifiers import make_probe
from coala_latent.analysis.confusion import Confusion, confusion_matrix, f1, macro_f1
from coala_latent.analysis.linear_classifier import LINEAR, fit_linear, row_weights
from coala_latent.errors import ConfigError, DataError


def blobs(classes=3, n=40, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return 3 + rng.normal(size=(n, dim)) * 10 + 8 * np.eye(dim)[y], np.array(list("cab"))[y]


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("classes", [2, 3])
def test_one_matrix_says_what_the_pipeline_says(kind, classes):
    x, y = blobs(classes)
    found = fit_linear(kind, x, y)
    pipeline = make_probe(kind).fit(x, y)
    decisions = found.decisions(x)
    assert decisions.shape == (len(x), classes)
    wanted = pipeline.decision_function(x)
    if classes == 2:
        np.testing.assert_allclose(decisions[:, 1] - decisions[:, 0], wanted, atol=1e-9)
    else:
        np.testing.assert_allclose(decisions, wanted, atol=1e-9)
    said = np.array(found.classes)[decisions.argmax(axis=1)]
    np.testing.assert_array_equal(said, pipeline.predict(x))
    if kind == "logistic":
        np.testing.assert_allclose(
            found.probabilities(decisions), pipeline.predict_proba(x), atol=1e-9
        )
    else:
        assert found.probabilities(decisions) is None


@pytest.mark.parametrize("kind", LINEAR)
def test_more_columns_than_rows_give_the_same_answer_in_fewer(kind):
    x, y = blobs(dim=100)
    found = fit_linear(kind, x, y)
    assert found.converged
    wanted = make_probe(kind).fit(x, y).decision_function(x[::-1] + 1)
    np.testing.assert_allclose(
        found.decisions(x[::-1] + 1), wanted, atol=0.02
    )  # solved to 1e-4 each
    assert found.weight.shape == (3, 100)


def test_columns_that_do_not_vary_and_repeated_fits_change_nothing():
    x, y = blobs()
    constant = np.concatenate([x, np.full((len(x), 1), 4.0)], axis=1)
    np.testing.assert_allclose(
        fit_linear("logistic", constant, y).decisions(constant),
        fit_linear("logistic", x, y).decisions(x),
        atol=1e-9,
    )
    a, b = (fit_linear("linear_svm", x, y, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a.weight, b.weight)


def test_a_recordings_answer_is_the_mean_over_the_seconds_its_rows_heard():
    x, y = blobs()
    found = fit_linear("logistic", x, y)
    file = np.array([0, 0, 0, 1, 2, 2])
    seconds = np.array([1.0, 1.0, 0.5, 2.0, 0.0, 0.0])
    weights = row_weights(file, seconds)
    np.testing.assert_allclose(weights, [0.4, 0.4, 0.2, 1, 0.5, 0.5])
    each = found.decisions(x[:6])
    by_hand = [each[:3].T @ [0.4, 0.4, 0.2], each[3], each[4:].mean(axis=0)]
    np.testing.assert_allclose(found.decisions(x[:6], file, weights), by_hand, atol=1e-12)
    # Linear: the same as the answer for the weighted mean row.
    means = [x[:3].T @ [0.4, 0.4, 0.2], x[3], x[4:6].mean(axis=0)]
    np.testing.assert_allclose(found.decisions(means), by_hand, atol=1e-9)


@pytest.mark.parametrize("kind", LINEAR)
def test_rows_weigh_in_training_what_they_are_worth(kind):
    x, y = blobs(n=30)
    long = np.concatenate([x, np.repeat(x[:1], 9, axis=0)])  # the first recording has ten rows
    labels = np.concatenate([y, np.repeat(y[:1], 9)])
    file = np.concatenate([np.arange(30), np.zeros(9, int)])
    order = np.argsort(file, kind="stable")
    weights = row_weights(file[order], np.ones(39))
    even = fit_linear(kind, long[order], labels[order], weights).decisions(x)
    uneven = fit_linear(kind, long[order], labels[order]).decisions(x)
    alone = fit_linear(kind, x, y).decisions(x)
    assert np.abs(even - alone).max() < np.abs(uneven - alone).max()


@pytest.mark.parametrize(
    ("rows", "labels", "error"),
    [
        (np.ones((2, 2)), ["a", "a"], DataError),
        (np.ones((2, 2)), ["a", "b", "c"], DataError),
        ([[1.0, np.nan], [1, 2]], ["a", "b"], DataError),
        (np.ones((0, 2)), [], DataError),
        (np.ones(2), ["a", "b"], DataError),
    ],
)
def test_what_cannot_be_trained_on_is_refused(rows, labels, error):
    with pytest.raises(error):
        fit_linear("logistic", rows, labels)


def test_wrong_kinds_and_widths_are_refused():
    x, y = blobs()
    with pytest.raises(ConfigError, match="knn"):
        fit_linear("knn", x, y)
    with pytest.raises(DataError, match="is for 5"):
        fit_linear("logistic", x, y).decisions(x[:, :4])


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true = rng.integers(4, size=80)
    said = np.where(rng.random(80) < 0.5, true, rng.integers(4, size=80))
    table = confusion_matrix(true, said, 4)
    np.testing.assert_array_equal(table, metrics.confusion_matrix(true, said))
    np.testing.assert_allclose(f1(table), metrics.f1_score(true, said, average=None))
    assert macro_f1(table) == pytest.approx(metrics.f1_score(true, said, average="macro"))
    figures = Confusion.of_test("abcd", table).per_class()
    wanted = metrics.precision_recall_fscore_support(true, said)
    for name, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose([each[name] for each in figures], values)


def test_intervals_of_folds_and_of_a_test_set_hold_the_value():
    tables = [np.array([[8, 2], [1, 9]]), np.array([[9, 1], [3, 7]]), np.array([[10, 0], [2, 8]])]
    folds = Confusion.of_folds("ab", tables, 1 / 3)
    assert folds.accuracy.mean == pytest.approx(51 / 60)
    assert folds.accuracy.n == 3
    assert folds.table.sum() == 60
    assert folds.macro_f1.mean == pytest.approx(np.mean([macro_f1(table) for table in tables]))
    test = Confusion.of_test("ab", sum(tables))
    for interval in (folds.accuracy, folds.macro_f1, test.accuracy, test.macro_f1):
        assert 0 < interval.low < interval.mean < interval.high <= 1
    assert test.accuracy.high - test.accuracy.low == pytest.approx(
        2 * 1.96 * np.sqrt(0.85 * 0.15 / 60), rel=0.1
    )
    assert test.chance == 0.5


def test_classes_that_were_never_met_or_said_have_no_figures():
    found = Confusion.of_test("abc", np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]]))
    (a, b, c) = found.per_class()
    assert (a["precision"], a["recall"]) == (0.75, 1.0)
    assert (b["precision"], b["recall"], b["f1"], b["support"]) == (None, 0.0, 0.0, 1)
    assert (c["precision"], c["recall"], c["f1"], c["support"]) == (None, None, None, 0)
    assert found.macro_f1.mean == pytest.approx((6 / 7 + 0) / 2)
    with pytest.raises(DataError, match="no recording to test"):
        Confusion.of_test("ab", np.zeros((2, 2), int))
