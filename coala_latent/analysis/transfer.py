"""Whether what a factor's block holds moves what the network hears.

A receptor's latents get values of a donor's block, go back through flow and projection and on
through the network; the effect is by how much its logits come nearer to the donor's. Taking over
any part of a donor brings one nearer to it, so the controls matter most: values of a third row of
the donor's class against those of one of the receptor's own (their difference is centred at 0 if
classes mean nothing), and a step of equal length in a random residual direction.

Original project: TimHenry1995/LatentAudio (no licence stated). New: controls, several dimensions a
block, pairs from different recordings, and tests that know of recordings (`differences`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from coala_latent.analysis.differences import DifferenceTest, difference_family, plain
from coala_latent.analysis.folds import encode_labels
from coala_latent.analysis.statistics import Interval, bootstrap_interval
from coala_latent.errors import DataError
from coala_latent.models.flows import FactorFlow
from coala_latent.models.latent_scaling import LatentProjection
from coala_latent.models.modes import evaluating

__all__ = [
    "LatentEditor",
    "TransferReport",
    "chosen_pairs",
    "chosen_triplets",
    "transfer_effects",
    "triplet_effects",
]

_Indices = NDArray[np.intp]
_Doubles = NDArray[np.float64]
_CONTRASTS = (
    ("before", "no_edit"),
    ("before", "swap"),
    ("before", "class_mean"),
    ("no_edit", "swap"),
    ("residual", "swap"),
    ("own_class", "swap"),
    ("own_class", "other_class"),
)


@dataclass(frozen=True, eq=False)
class LatentEditor:
    """The way from a layer's latents to a code, and from an edited code to the network's logits.

    Attributes:
        flow: Of what `projection` gives.
        projection: None: the flow takes the latents themselves.
        resume: Latents ``(n, features)`` to logits ``(n, classes)``.
        clamp: Set negative values of edited latents to 0, as a layer behind a ReLU has none.
        batch_size: Rows at once.
    """

    flow: FactorFlow
    projection: LatentProjection | None
    resume: Callable[[Tensor], Tensor]
    clamp: bool = False
    batch_size: int = 64

    def code(self, x: Tensor) -> Tensor:
        """Code ``(n, D)`` of latents ``(n, features)``."""
        ahead = nn.Identity() if self.projection is None else self.projection
        with evaluating(nn.ModuleList([self.flow, ahead])):
            return torch.cat([self.flow(ahead(part))[0] for part in x.split(self.batch_size)])

    def logits(self, x: Tensor, code: Tensor | None = None) -> tuple[Tensor, float]:
        """Logits ``(n, classes)`` float64, and the share of edited latents that were negative.

        The latents are ``x (n, features)``, edited to have the code ``(n, D)`` if one is given.

        Raises:
            DataError: Logits are not finite.
        """
        found, negative = [], 0
        ahead = nn.Identity() if self.projection is None else self.projection
        with evaluating(nn.ModuleList([self.flow, ahead])):
            for rows in torch.arange(len(x), device=x.device).split(self.batch_size):
                part = x[rows]
                if code is not None:
                    back = self.flow.inverse(code[rows])[0]
                    part = back if self.projection is None else self.projection.edit(part, back)
                    negative += int((part < 0).sum())
                    part = part.clamp(min=0) if self.clamp else part
                found.append(self.resume(part).double())
        logits = torch.cat(found)
        if not torch.isfinite(logits).all():
            raise DataError("logits of (edited) latents are not finite: the code is out of range")
        return logits, negative / x.numel()


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Effects of edits, by condition: a factor's name, or ``"all"`` for every factor's block.

    Attributes:
        clamped: Whether negative values of edited latents were set to 0.
        n: Pairs or triplets.
        distance: Mean Euclidean distance of logits to the donor's, by kind of receptor; bootstrap
            intervals over the donors' groups.
        tests: By contrast ``"one - other"`` of these distances: positive where the other is nearer
            to the donor. Holm's correction over all contrasts of all conditions.
        interpolation: Distance by weight of the donor's values, 0 to 1.
        changes: By named output and the donor's class: mean change of the output's logits by the
            swap; bootstrap intervals over the receptors' groups.
        no_edit_error: Largest change of a logit that the way there and back alone makes.
        negative: Share of negative values in edited latents, by kind of receptor.
    """

    clamped: bool
    n: dict[str, int] = field(default_factory=dict)
    distance: dict[str, dict[str, Interval]] = field(default_factory=dict)
    tests: dict[str, dict[str, DifferenceTest]] = field(default_factory=dict)
    interpolation: dict[str, dict[str, Interval]] = field(default_factory=dict)
    changes: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    no_edit_error: dict[str, float] = field(default_factory=dict)
    negative: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return plain(self)


def transfer_effects(
    editor: LatentEditor,
    x: Tensor,
    labels: ArrayLike,
    groups: ArrayLike,
    slices: Mapping[str, slice],
    *,
    n_pairs: int = 400,
    outputs: Mapping[str, Sequence[int]] | None = None,
    weights: Sequence[float] = (0.25, 0.5, 0.75),
    seed: int = 0,
) -> TransferReport:
    """Edit receptors by their donors' codes and measure what the network hears.

    Kinds of receptor: ``before``, ``no_edit`` (there and back), ``swap`` (the donor's block),
    ``class_mean`` (of the donor's class, over the rows given), ``residual`` (moved as far as by the
    swap, but in a random residual direction), and where there are third recordings for every pair
    ``other_class`` and ``own_class`` (another row's block of the donor's, the receptor's class).

    Args:
        editor: Flow, projection and the rest of the network.
        x: ``(n, features)`` latents of held-out rows.
        labels, groups: ``(n, K)`` classes and ``(n,)`` ids of recordings.
        slices: Where each block lies: the residual first, then one per factor in order.
        n_pairs: For each condition: each factor, and all of several at once.
        outputs: Indices of logits by name, such as ``{"Glass": [435]}``; with several indices the
            distance in these alone is tested too.
        weights: Of the donor's values in interpolations, beside 0 and 1.
        seed: Of pairs, directions and resampling.

    Raises:
        DataError: Lengths differ, as in `chosen_pairs`, or logits are not finite.
    """
    y, group = _checked(labels, groups, len(x))
    rng, (residual, *factors) = np.random.default_rng(seed), list(slices)
    z, report = editor.code(x), TransferReport(editor.clamp)
    tests: dict[tuple[str, str], tuple[_Doubles, _Indices]] = {}
    for number, condition in enumerate([*factors, "all"] if len(factors) > 1 else factors):
        alone = None if number == len(factors) else number
        tested = list(range(len(factors))) if alone is None else [number]
        places = [slices[factors[k]] for k in tested]
        donor, receptor = chosen_pairs(y, group, alone, n_pairs, seed)
        report.n[condition] = len(donor)
        mates = _class_mates(y[:, tested], group, donor, receptor, rng)
        own = z[receptor]
        edits = {"no_edit": own, "swap": _with(own, z[donor], places)}
        means = own.clone()
        for k, place in zip(tested, places, strict=True):
            for c in np.unique(y[donor, k]):
                means[y[donor, k] == c, place] = z[y[:, k] == c, place].mean(dim=0)
        step = torch.zeros_like(own)
        noise = torch.as_tensor(rng.normal(size=own[:, slices[residual]].shape)).to(own)
        step[:, slices[residual]] = nn.functional.normalize(noise, dim=1)
        length = (edits["swap"] - own).norm(dim=1, keepdim=True)
        edits |= {"class_mean": means, "residual": own + length * step}
        if mates is not None:
            edits["other_class"] = _with(own, z[mates[0]], places)
            edits["own_class"] = _with(own, z[mates[1]], places)
        edits |= {f"{w:g}": own + w * (edits["swap"] - own) for w in weights}

        heard, before = editor.logits(x[donor])[0], editor.logits(x[receptor])[0]
        distance, negative = {"before": _distance(before, heard)}, {}
        pair = group[np.stack([donor, receptor], axis=1)]
        for kind, code in edits.items():
            after, negative[kind] = editor.logits(x[receptor], code)
            distance[kind] = _distance(after, heard)
            if kind == "no_edit":
                report.no_edit_error[condition] = float((after - before).abs().max())
            if kind != "swap":
                continue
            for name, at in (outputs or {}).items():
                if len(at) > 1:
                    one, other = (
                        _distance(logits[:, at], heard[:, at]) for logits in (before, after)
                    )
                    tests[condition, f"before - swap, {name}"] = one - other, pair
                if alone is not None:
                    moved = (after - before)[:, at].mean(dim=1).cpu().numpy()
                    report.changes.setdefault(condition, {})[name] = {
                        str(c): _mean(moved[y[donor, alone] == c], pair[y[donor, alone] == c, 1])
                        for c in np.unique(y[donor, alone])
                    }
        for one_kind, other_kind in _CONTRASTS:
            if {one_kind, other_kind} <= {*distance}:
                # The mates' recordings are shared between rows as the pairs' are.
                members = [pair.T, group[mates]] if one_kind == "own_class" else [pair.T]
                difference = distance[one_kind] - distance[other_kind]
                tests[condition, f"{one_kind} - {other_kind}"] = (
                    difference,
                    np.concatenate(members).T,
                )
        curve = {"0": "no_edit", **{f"{w:g}": f"{w:g}" for w in sorted(weights)}, "1": "swap"}
        by_kind = {kind: _mean(values, pair[:, 0]) for kind, values in distance.items()}
        report.interpolation[condition] = {w: by_kind[kind] for w, kind in curve.items()}
        report.distance[condition] = {k: v for k, v in by_kind.items() if k not in curve}
        report.negative[condition] = {k: v for k, v in negative.items() if k not in curve}
    _test(report, tests, seed)
    return report


def triplet_effects(
    editor: LatentEditor,
    x: Tensor,
    labels: ArrayLike,
    groups: ArrayLike,
    slices: Mapping[str, slice],
    n_triplets: int = 400,
    share: float = 0.3,
    seed: int = 0,
) -> TransferReport:
    """LatentAudio's triplets (see `chosen_triplets`), P being compared with M.

    M is ``between`` as it is, ``to_own`` with the block of P, ``to_other`` with that of Q, which
    should be nearer and farther. The rest is as in `transfer_effects`.
    """
    y, group = _checked(labels, groups, len(x))
    z, report = editor.code(x), TransferReport(editor.clamp)
    tests: dict[tuple[str, str], tuple[_Doubles, _Indices]] = {}
    for number, factor in enumerate(list(slices)[1:]):
        place = slices[factor]
        values = z[:, place].double().cpu().numpy()
        own, between, other = chosen_triplets(values, y, group, number, n_triplets, share, seed)
        heard, before = editor.logits(x[own])[0], editor.logits(x[between])[0]
        distance, report.negative[factor] = {"between": _distance(before, heard)}, {}
        for kind, target in (("to_own", own), ("to_other", other)):
            code = _with(z[between], z[target], [place])
            after, report.negative[factor][kind] = editor.logits(x[between], code)
            distance[kind] = _distance(after, heard)
            members = group[np.stack([own, between, other], axis=1)]
            tests[factor, f"between - {kind}"] = distance["between"] - distance[kind], members
        report.n[factor] = len(own)
        report.distance[factor] = {k: _mean(d, group[own]) for k, d in distance.items()}
    _test(report, tests, seed)
    return report


def chosen_pairs(
    labels: ArrayLike, groups: ArrayLike, factor: int | None, n: int, seed: int = 0
) -> tuple[_Indices, _Indices]:
    """Donors and receptors ``(<= n,)``: unlike in `factor` (None: in every one), alike in the rest.

    They come from different groups, and all ordered pairs of conditions get the same number, so
    that no class is only ever a donor; fewer than `n` where conditions share all their groups.

    Raises:
        DataError: No such pairs.
    """
    y, group = _checked(labels, groups, len(np.asarray(labels)))
    rng = np.random.default_rng(seed)
    place, allowed = _condition_pairs(y, factor)
    donors, receptors = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    shared_out = np.resize(rng.permutation(len(allowed)), n if len(allowed) else 0)
    for pair, count in zip(*np.unique(shared_out, return_counts=True), strict=True):
        of, to = (np.flatnonzero(place == c) for c in allowed[pair])
        drawn = rng.choice(of, count)
        for source in np.unique(group[drawn]):
            partners = to[group[to] != source]
            mine = drawn[group[drawn] == source]
            if len(partners):
                donors.append(mine)
                receptors.append(rng.choice(partners, len(mine)))
    if len(donors) == 1:
        what = "every factor" if factor is None else f"factor {factor} alone"
        raise DataError(f"no rows of different recordings differ in {what}: add conditions")
    return np.concatenate(donors), np.concatenate(receptors)


def chosen_triplets(
    block: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    factor: int,
    n: int,
    share: float = 0.3,
    seed: int = 0,
) -> tuple[_Indices, _Indices, _Indices]:
    """Rows P, M, Q ``(<= n,)``, alike in every other factor; P and M of one class, Q of another.

    On the line from the mean of P's class to that of Q's in the factor's block, P are the `share`
    of its class nearest to its start, M those nearest to its middle, Q those of theirs nearest to
    its end. P and M are of different groups.

    Raises:
        DataError: No condition has two groups.
    """
    values = np.asarray(block, np.float64)
    y, group = _checked(labels, groups, len(values))
    place, allowed = _condition_pairs(y, factor)
    rng, found = np.random.default_rng(seed), [np.zeros((3, 0), np.intp)]
    for start, end in allowed:
        of, to = (np.flatnonzero(place == c) for c in (start, end))
        origin = values[of].mean(axis=0)
        line = values[to].mean(axis=0) - origin
        along = (values - origin) @ line / max(float(line @ line), 1e-300)
        near = [
            rows[np.argsort(abs(along[rows] - at), kind="stable")[: max(1, int(share * len(rows)))]]
            for rows, at in ((of, 0.0), (of, 0.5), (to, 1.0))
        ]
        drawn = np.stack([rng.choice(rows, -(-n // len(allowed))) for rows in near])
        found.append(drawn[:, group[drawn[0]] != group[drawn[1]]])
    triplets = rng.permutation(np.concatenate(found, axis=1), axis=1)[:, :n]
    if triplets.shape[1] == 0:
        raise DataError("triplets need two recordings of a condition: add takes")
    return triplets[0], triplets[1], triplets[2]


def _condition_pairs(y: _Indices, factor: int | None) -> tuple[_Indices, _Indices]:
    """Condition of each row, and ``(pairs, 2)`` conditions unlike in exactly one or all factors."""
    conditions, place = np.unique(y, axis=0, return_inverse=True)
    alike = conditions[:, None, :] == conditions[None, :, :]
    kept = [factor not in (None, k) for k in range(y.shape[1])]
    return place.reshape(-1), np.argwhere((alike == kept).all(axis=2))


def _class_mates(
    classes: _Indices,
    group: _Indices,
    donor: _Indices,
    receptor: _Indices,
    rng: np.random.Generator,
) -> _Indices | None:
    """``(2, n)`` rows of the donors' and of the receptors' classes, from third groups."""
    same = np.unique(classes, axis=0, return_inverse=True)[1].reshape(-1)
    mates = np.zeros((2, len(donor)), np.intp)
    for side, rows in enumerate((donor, receptor)):
        cases = np.stack([same[rows], group[donor], group[receptor]], axis=1)
        kinds, case = np.unique(cases, axis=0, return_inverse=True)
        for i, (kind, a, b) in enumerate(kinds):
            usable = np.flatnonzero((same == kind) & (group != a) & (group != b))
            if len(usable) == 0:
                return None
            here = np.flatnonzero(case.reshape(-1) == i)
            mates[side, here] = rng.choice(usable, len(here))
    return mates


def _with(code: Tensor, other: Tensor, places: Sequence[slice]) -> Tensor:
    edited = code.clone()
    for place in places:
        edited[:, place] = other[:, place]
    return edited


def _distance(a: Tensor, b: Tensor) -> _Doubles:
    return (a - b).norm(dim=1).cpu().numpy()


def _mean(values: _Doubles, group: _Indices) -> Interval:
    return bootstrap_interval(values, group, 2000)


def _test(
    report: TransferReport, tests: Mapping[tuple[str, str], tuple[_Doubles, _Indices]], seed: int
) -> None:
    values = {str(key): differences for key, (differences, _) in tests.items()}
    members = {str(key): groups for key, (_, groups) in tests.items()}
    found = difference_family(values, members, seed=seed)
    for (condition, contrast), test in zip(tests, found.values(), strict=True):
        report.tests.setdefault(condition, {})[contrast] = test


def _checked(labels: ArrayLike, groups: ArrayLike, n: int) -> tuple[_Indices, _Indices]:
    table, (_, group) = np.asarray(labels), encode_labels(groups, "groups")
    if table.ndim != 2 or len(table) != n or len(group) != n:
        raise DataError(f"{n} rows need labels ({n}, K) and as many groups, got {table.shape}")
    return np.stack([encode_labels(c, "labels")[1] for c in table.T], axis=1), group
