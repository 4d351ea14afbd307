"""SoundNet's objective: say of the sound what a teacher says of the picture.

Source: Aytar, Vondrick, Torralba, "SoundNet: Learning Sound Representations from Unlabeled Video",
NeurIPS 2016 (arXiv 1610.09001), section 3, and its published code for the constants.

The original pairs the student's four steps in 20 s with four frames of the film by their order,
though the steps hear around 4.7, 7.7, 10.7 and 13.7 s and the frames lie 5 s apart. Here both are
brought to common times first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.data.teacher_clips import Taught, TeacherBatch
from coala_latent.errors import ConfigError
from coala_latent.models.geometry import Geometry
from coala_latent.models.soundnet import SoundNet
from coala_latent.training.objective import Objective, OptimizerFactory, SchedulerFactory

__all__ = [
    "Align",
    "Distillation",
    "interpolate",
    "original_weights",
    "step_divergence",
    "step_times",
]

Align = Literal["student", "teacher"]

ORIGINAL_SCALE = 250.0


def step_divergence(teacher: Tensor, log_student: Tensor) -> Tensor:
    """``KL(teacher || student)`` of each step, in nats.

    Args:
        teacher: ``(..., classes)`` probabilities.
        log_student: ``(..., classes)`` logarithms of probabilities.

    Returns:
        ``(...)``, 0 where both are equal.
    """
    return F.kl_div(log_student, teacher, reduction="none").sum(-1)


def original_weights(classes: Mapping[str, int], scale: float = ORIGINAL_SCALE) -> dict[str, float]:
    """Weights of the heads in the original's loss.

    It takes the mean over classes too, and over the heads, and multiplies by 250: with 1000
    objects and 401 scenes the loss is ``0.125 KL_objects + 0.3117 KL_scenes``.

    Args:
        classes: Number of classes of each head.
        scale: The factor.
    """
    return {head: scale / (len(classes) * count) for head, count in classes.items()}


def step_times(geometry: Geometry, count: int, sample_rate: int) -> Tensor:
    """Seconds at which the first steps of a layer have the middle of what they hear, ``(count,)``.

    They are those of the sound with its padding: the first may hear more zeros than sound.
    """
    first = geometry.offset + (geometry.field - 1) / 2
    return (
        (first + geometry.stride * torch.arange(count, dtype=torch.float64))
        .div(sample_rate)
        .float()
    )


def interpolate(values: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """Values between the times at which they are known: linear, constant before and after.

    Distributions give distributions.

    Args:
        values: ``(batch, steps, channels)``.
        times: ``(batch, steps)``, not decreasing; infinite where there is no value.
        at: ``(batch, points)`` or ``(points,)``.

    Returns:
        ``(batch, points, channels)``.
    """
    points = at.expand(len(times), -1).contiguous()
    last = times.isfinite().sum(1, keepdim=True) - 1
    right = torch.minimum(torch.searchsorted(times.contiguous(), points), last)
    left = (right - 1).clamp(min=0)
    before, after = times.gather(1, left), times.gather(1, right)
    apart = after > before
    share = torch.where(apart, (points - before) / torch.where(apart, after - before, 1.0), 0.0)
    channels = values.shape[2]
    low, high = (
        values.gather(1, place[..., None].expand(-1, -1, channels)) for place in (left, right)
    )
    return low.lerp(high, share.clamp(0.0, 1.0)[..., None].to(values.dtype))


class _Compared(NamedTuple):
    """Teacher and student at common times, ``(points, classes)``."""

    teacher: Tensor
    log_student: Tensor


class Distillation(Objective):
    """Sum over heads of ``weight * KL(teacher || student)``, the mean over steps.

    For each head are logged: ``kl``; ``top_1`` and, of more than five classes, ``top_5``: how
    often the teacher's first choice is the student's, or among its first five; and
    ``constant_kl``: the divergence of the best answer that does not listen, the teacher's mean. A
    student has learned something where ``kl`` is below that.

    Args:
        model: In training. Heads without a weight are left as they are.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        weights: Of the heads; `original_weights` of all heads unless given.
        align: ``"student"``: teachers' distributions are interpolated to the times of the
            student's steps. ``"teacher"``: the student's logits are interpolated to the teacher's
            frames, those that lie within half a step of the student's.

    Raises:
        ConfigError: A weight is of no head or not positive, or `align` is unknown.
    """

    monitor: ClassVar[str] = "validation/total"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    model: SoundNet

    def __init__(
        self,
        model: SoundNet,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        weights: Mapping[str, float] | None = None,
        align: Align = "student",
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        classes = {head: _classes(model, head) for head in model.network.heads()}
        self.weights = original_weights(classes) if weights is None else dict(weights)
        for head, weight in self.weights.items():
            if head not in classes or not weight > 0:
                raise ConfigError(
                    f"weights: {head}={weight}; use positive weights of {', '.join(classes)}"
                )
        if not self.weights or align not in get_args(Align):
            raise ConfigError(
                f"weights={dict(self.weights)}, align={align!r}: use one head at least, and one "
                f"of {', '.join(get_args(Align))}"
            )
        self.align: Align = align
        self._seen: dict[str, _Seen] = {}

    def compare(self, batch: TeacherBatch) -> dict[str, _Compared]:
        """Teacher and student of every head in training, at common times.

        Raises:
            ConfigError: The data have no teacher for a head.
        """
        if missing := sorted(set(self.weights) - set(batch.teachers)):
            raise ConfigError(
                f"the data have no teacher for {', '.join(missing)} (give objective.weights of "
                f"{', '.join(sorted(batch.teachers))} alone)"
            )
        network = self.model.network
        heard = network.activations(self.model.front_end(batch.waveform), tuple(self.weights))
        return {head: self._aligned(head, heard[head], batch.teachers[head]) for head in heard}

    def _aligned(self, head: str, logits: Tensor, taught: Taught) -> _Compared:
        student = logits.transpose(1, 2).float()
        geometry, rate = self.model.network.geometry(head), self.model.front_end.sample_rate
        times = step_times(geometry, student.shape[1], rate).to(student.device)
        if self.align == "student":
            teacher = interpolate(taught.probabilities, taught.times, times)
            return _Compared(teacher.flatten(0, 1), student.log_softmax(-1).flatten(0, 1))
        frames = taught.times
        reach = geometry.stride / rate / 2
        near = (frames >= times[0] - reach) & (frames <= times[-1] + reach)
        # An infinite time cannot be interpolated at, and is never near.
        at = frames.masked_fill(~near, 0.0)
        moved = interpolate(student, times.expand(len(student), -1), at)
        return _Compared(taught.probabilities[near], moved.log_softmax(-1)[near])

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised, of each head's mean divergence."""
        return torch.stack([self.weights[head] * term for head, term in terms.items()]).sum()

    def training_step(self, batch: TeacherBatch, index: int) -> Tensor:
        """Loss of one batch."""
        terms = {}
        for head, compared in self.compare(batch).items():
            terms[head] = _mean(step_divergence(*compared))
            self._log_mean(f"train/{head}_kl", terms[head], len(compared.teacher))
        loss = self.total(terms)
        self._log_mean("train/total", loss, len(batch.clip))
        return loss

    def validation_step(self, batch: TeacherBatch, index: int) -> None:
        """Sums of one batch."""
        for head, compared in self.compare(batch).items():
            self._seen.setdefault(head, _Seen(compared.teacher)).add(compared)

    def on_validation_epoch_end(self) -> None:
        """Log what was seen of the whole validation set."""
        terms = {}
        for head, seen in self._seen.items():
            scores = seen.scores()
            terms[head] = scores["kl"]
            for name, score in scores.items():
                self.log(f"validation/{head}_{name}", score, prog_bar=name == "kl", sync_dist=True)
        self.log("validation/total", self.total(terms), sync_dist=True)
        self._seen.clear()

    def _log_mean(self, name: str, value: Tensor, size: int) -> None:
        self.log(name, value, on_step=False, on_epoch=True, batch_size=max(1, size), sync_dist=True)


class _Seen:
    """Sums over the steps of a validation set, of one head.

    Args:
        like: ``(steps, classes)``, tells the number of classes and the device.
    """

    def __init__(self, like: Tensor) -> None:
        self._top = (1, 5) if like.shape[1] > 5 else (1,)
        self._count = 0
        self._kl, self._negative_entropy = (
            torch.zeros((), dtype=torch.float64, device=like.device) for _ in range(2)
        )
        self._teacher = torch.zeros(like.shape[1], dtype=torch.float64, device=like.device)
        self._hits = torch.zeros(len(self._top), dtype=torch.float64, device=like.device)

    def add(self, compared: _Compared) -> None:
        """Count the steps of a batch."""
        teacher, log_student = compared
        self._count += len(teacher)
        self._kl += step_divergence(teacher, log_student).sum().double()
        self._negative_entropy += torch.xlogy(teacher, teacher).sum().double()
        self._teacher += teacher.sum(0).double()
        choice = teacher.argmax(1, keepdim=True)
        ranked = log_student.topk(self._top[-1], dim=1).indices == choice
        self._hits += torch.stack([ranked[:, :top].any(1).sum() for top in self._top])

    def scores(self) -> dict[str, Tensor]:
        """See `Distillation`; NaN where no step could be compared."""
        mean = self._teacher / self._count
        constant = self._negative_entropy / self._count - torch.xlogy(mean, mean).sum()
        shares = self._hits / self._count
        return {
            "kl": (self._kl / self._count).float(),
            "constant_kl": constant.float(),
            **{f"top_{top}": share.float() for top, share in zip(self._top, shares, strict=True)},
        }


def _classes(model: SoundNet, head: str) -> int:
    convolution = model.network.get_submodule(head)
    assert isinstance(convolution, nn.Conv1d)
    return convolution.out_channels


def _mean(divergence: Tensor) -> Tensor:
    """The mean; 0 of no step at all."""
    return divergence.sum() / max(1, len(divergence))
