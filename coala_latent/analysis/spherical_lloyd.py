"""Iterations of spherical k-means: all rows, or batch by batch.

A row is looked at again only when it can have changed its centre. When a centre moves by ``m``, no
cosine with it changes by more than ``m`` (Cauchy-Schwarz); so a row whose best cosine was ahead of
its second best by more than the moves since then stays where it is (Hamerly, SDM 2010; on the
sphere Schubert, Lang, Feher, SISAP 2021). The result is that of plain iterations. Sums of rows
follow the few that move, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coala_latent.analysis.unit_rows import ArrayRows, UnitRows

__all__ = ["Lloyd", "MiniBatches", "add_rows"]

# Cosines are rounded to float32: a lead below this is none, a row this near to a centre is on it.
_ROUNDING = 1e-5


def add_rows(sums: Tensor, labels: Tensor, rows: Tensor, sign: int = 1) -> None:
    """Add ``rows (n, dim)`` to the ``sums (k, dim)``, float64, of their ``labels (n,)``."""
    if rows.device.type == "cpu":
        sums.index_add_(0, labels, rows.double(), alpha=sign)
    else:  # where index_add_ adds in another order every time, and this in one
        sums.index_put_((labels,), sign * rows.double(), accumulate=True)


def _unit(sums: Tensor, counts: Tensor, otherwise: Tensor) -> Tensor:
    """Directions of sums; `otherwise` for those without members or whose members cancel out."""
    lengths = torch.linalg.vector_norm(sums, dim=1)
    directed = (lengths > _ROUNDING * counts) & (counts > 0)
    return torch.where(directed[:, None], normalize(sums, dim=1), otherwise)


class Lloyd:
    """Alternates labels and centres over all rows.

    Args:
        rows: The rows.
        centres: ``(k, dim)`` float64 of length 1, where to begin.

    Attributes:
        centres: ``(k, dim)`` float64, to which `labels` belong.
        labels: ``(n,)`` int64.
        counts: ``(k,)`` int64, members of each.
        iterations: How often centres were moved.
        converged: Whether they have come to rest.
    """

    def __init__(self, rows: UnitRows, centres: Tensor) -> None:
        self._rows = rows
        self.centres = centres
        device = rows.device
        self.labels = torch.zeros(rows.count, dtype=torch.int64, device=device)
        # Best cosine less second best, less all that centres have moved since.
        self._lead = torch.full((rows.count,), -1.0, device=device)
        self._sums = torch.zeros(centres.shape, dtype=torch.float64, device=device)
        self.counts = torch.zeros(len(centres), dtype=torch.int64, device=device)
        self.iterations = 0
        self.converged = False
        self._assign_first()
        total = self._sums.sum(dim=0) / rows.count
        self.variance = float(1.0 - total.square().sum()) / rows.dim

    def run(self, iterations: int, tolerance: float) -> Iterator[float]:
        """Iterate until centres rest.

        Args:
            iterations: At most so many.
            tolerance: They rest when their squared moves sum up to less than this share of the
                rows' mean variance of a value (as scikit-learn has it), or no label changes.

        Yields:
            The sum of squared moves over that variance, after each iteration.
        """
        for _ in range(iterations):
            self._fill_empty()
            centres = _unit(self._sums, self.counts, self.centres)
            moves = torch.linalg.vector_norm(centres - self.centres, dim=1)
            self.centres = centres
            changed = self._assign_again(moves)
            self.iterations += 1
            squared = float(moves.square().sum())
            empty = bool((self.counts == 0).any())
            self.converged = not empty and squared <= tolerance * self.variance
            self.converged |= not changed
            yield squared / self.variance if self.variance > 0 else 0.0
            if self.converged:
                return

    def _scored(self, rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest centre and lead of each row."""
        cosines = rows @ centres
        best, labels = cosines.max(dim=1)
        if cosines.shape[1] == 1:
            return labels, torch.full_like(best, torch.inf)
        second = cosines.scatter_(1, labels[:, None], -2.0).amax(dim=1)
        return labels, best - second

    def _assign_first(self) -> None:
        centres = self.centres.float().t().contiguous()
        for begin, rows in self._rows.blocks():
            part = slice(begin, begin + len(rows))
            self.labels[part], self._lead[part] = self._scored(rows, centres)
            add_rows(self._sums, self.labels[part], rows)
        self.counts += torch.bincount(self.labels, minlength=len(centres.t()))

    def _assign_again(self, moves: Tensor) -> int:
        """Labels for centres that have moved; how many changed."""
        centres = self.centres.float().t().contiguous()
        # What a row's own centre has moved, and what any other can have.
        farthest = torch.topk(moves, min(2, len(moves))).values
        other = torch.where(moves == farthest[0], farthest[-1], farthest[0])
        drift = (moves + other).float()
        changed = 0
        for begin, rows in self._rows.blocks():
            part = slice(begin, begin + len(rows))
            lead, labels = self._lead[part], self.labels[part]
            lead -= drift[labels]
            doubtful = torch.nonzero(lead < _ROUNDING)[:, 0]
            if not len(doubtful):
                continue
            looked_at = rows if len(doubtful) == len(rows) else rows[doubtful]
            nearest, lead[doubtful] = self._scored(looked_at, centres)
            before = labels[doubtful]
            moved = torch.nonzero(nearest != before)[:, 0]
            labels[doubtful] = nearest
            self._transfer(looked_at[moved], before[moved], nearest[moved])
            changed += len(moved)
        return changed

    def _transfer(self, rows: Tensor, before: Tensor, after: Tensor) -> None:
        if not len(rows):
            return
        add_rows(self._sums, after, rows)
        add_rows(self._sums, before, rows, -1)
        k = len(self.counts)
        self.counts += torch.bincount(after, minlength=k) - torch.bincount(before, minlength=k)

    def cosines(self) -> Tensor:
        """``(n,)`` float32: of each row with its centre."""
        found = torch.empty(self._rows.count, device=self._rows.device)
        centres = self.centres.float()
        for begin, rows in self._rows.blocks():
            part = slice(begin, begin + len(rows))
            found[part] = (rows * centres[self.labels[part]]).sum(dim=1)
        return found

    def _fill_empty(self) -> None:
        """Give every empty cluster the row that is farthest from its centre.

        Where all rows are on their centres, or alone with them, clusters stay empty: there are
        fewer directions than clusters.
        """
        empty = torch.nonzero(self.counts == 0)[:, 0].tolist()
        if not empty:
            return
        cosines = self.cosines()
        for cluster in empty:
            cosines[self.counts[self.labels] == 1] = 1.0
            number = int(torch.argmin(cosines))
            if float(cosines[number]) > 1.0 - _ROUNDING:
                return
            row = self._rows.take(np.array([number]))
            place = torch.tensor([cluster], device=row.device)
            self._transfer(row, self.labels[number : number + 1], place)
            self.labels[number] = cluster
            self._lead[number] = -1.0
            for begin, rows in self._rows.blocks():
                part = slice(begin, begin + len(rows))
                cosines[part] = torch.maximum(cosines[part], rows @ row[0])


class MiniBatches:
    """Moves centres after every batch (Sculley, WWW 2010): sums grow, so that moves shrink.

    Args:
        rows: An array's rows come in a new order on every pass, those of a stream in theirs.
        centres: ``(k, dim)`` float64 of length 1, where to begin.
        batch: Rows in a batch.
        rng: Of the order, and of the rows that replace centres without any.

    Attributes:
        centres: ``(k, dim)`` float64.
        iterations: Passes over the rows.
        converged: As of `Lloyd`, for the moves of a whole pass.
    """

    def __init__(
        self, rows: UnitRows, centres: Tensor, batch: int, rng: np.random.Generator
    ) -> None:
        self._rows = rows
        self._batch = batch
        self._rng = rng
        self.centres = centres
        self.iterations = 0
        self.converged = False
        self._sums = torch.zeros_like(centres)
        self._counts = torch.zeros(len(centres), dtype=torch.int64, device=rows.device)

    def run(self, passes: int, tolerance: float) -> Iterator[float]:
        """Pass over the rows until centres rest; see `Lloyd.run`."""
        for _ in range(passes):
            before, total = self.centres, torch.zeros_like(self.centres[0])
            met = torch.zeros_like(self._counts)
            rows = self.centres[:0].float()
            for rows in self._batches():
                labels = (rows @ self.centres.float().t()).argmax(dim=1)
                add_rows(self._sums, labels, rows)
                met += torch.bincount(labels, minlength=len(met))
                self.centres = _unit(self._sums, self._counts + met, self.centres)
                total += rows.double().sum(dim=0)
            self._counts += met
            self.iterations += 1
            self._replace(met == 0, rows)
            variance = float(1.0 - (total / self._rows.count).square().sum()) / self._rows.dim
            squared = float((self.centres - before).square().sum())
            self.converged = squared <= tolerance * variance
            yield squared / variance if variance > 0 else 0.0
            if self.converged:
                return

    def _batches(self) -> Iterator[Tensor]:
        if isinstance(self._rows, ArrayRows):
            order = self._rng.permutation(self._rows.count)
            for begin in range(0, len(order), self._batch):
                yield self._rows.take(order[begin : begin + self._batch])
        else:
            for _, rows in self._rows.blocks():
                yield from torch.split(rows, self._batch)

    def _replace(self, unused: Tensor, rows: Tensor) -> None:
        """Put centres that no row of a pass was nearest to on rows of its last batch."""
        for cluster in torch.nonzero(unused)[:, 0].tolist():
            row = rows[int(self._rng.integers(len(rows)))].double()
            self.centres[cluster] = row / torch.linalg.vector_norm(row)
            self._sums[cluster] = 0.0
            self._counts[cluster] = 0
