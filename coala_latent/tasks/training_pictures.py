"""Looking at a model while it learns: patches, their reconstructions, and the tags it finds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from coala_latent.data.module import TrainingData
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.tasks.pictures import new_figure, save_picture
from coala_latent.training.objective import Examples, PatchObjective

__all__ = ["Pictures", "ValidationPictures", "draw_examples"]

Pictures = Literal["auto", "always"]
_Named = Mapping[str, Sequence[Sequence[str]]]


class ValidationPictures(Callback):
    """Draws the first validation clips after each epoch, with their tags and those found.

    The upper row has the patches, low bands at the bottom, the lower row what the autoencoder makes
    of them, where there is one. Pictures go to ``FOLDER/epoch-0012.png`` and, with the tags as
    text, to TensorBoard, where it is a logger of the run.

    Args:
        folder: For the pictures.
        clips: How many, one patch of each.
        top: How many of the tags found are named, highest first.
        every: Epochs between two pictures.
        pictures: ``"auto"``: without matplotlib say so and log the tags alone. ``"always"``:
            without it do not train.

    Raises:
        ConfigError: A setting does not make sense.
        DependencyError: There are to be pictures, but no matplotlib.
    """

    def __init__(
        self,
        folder: str,
        clips: int = 8,
        top: int = 6,
        every: int = 1,
        pictures: Pictures = "auto",
    ) -> None:
        if min(clips, top, every) < 1 or pictures not in get_args(Pictures):
            raise ConfigError(
                f"clips={clips}, top={top}, every={every}, pictures={pictures!r}: use at least 1, "
                f"and one of {', '.join(get_args(Pictures))}"
            )
        self.folder = Path(folder)
        self.clips = clips
        self.top = top
        self.every = every
        self._parts: list[PatchBatch] = []
        self._draws = True
        try:
            new_figure(1.0, 1.0)
        except DependencyError as error:
            if pictures == "always":
                raise
            warnings.warn(f"no pictures of this run: {error}", stacklevel=2)
            self._draws = False

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Forget the clips of a run that was interrupted here."""
        self._parts.clear()

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: PatchBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first patch of the first clips."""
        if not _is_due(trainer, self.every):
            return
        known = {int(part.clip[0]) for part in self._parts}
        for row, clip in enumerate(batch.clip.tolist()):
            if len(known) == self.clips:
                return
            if clip not in known:
                known.add(clip)
                self._parts.append(PatchBatch(*(part[row : row + 1] for part in batch)))

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Draw and log what was kept."""
        if not _is_due(trainer, self.every) or not self._parts:
            return
        if not isinstance(pl_module, PatchObjective):
            raise ConfigError(
                f"{type(pl_module).__name__} has no patches to draw (leave callbacks=pictures out)"
            )
        batch = PatchBatch(*(torch.cat(column) for column in zip(*self._parts, strict=True)))
        examples = pl_module.examples(batch)
        tags = self._named(trainer, batch.tags, examples)
        epoch = trainer.current_epoch
        boards = [
            logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)
        ]
        for board in boards:
            board.add_text("validation/tags", _table(tags), epoch)
        if self._draws:
            figure = draw_examples(examples, tags, f"epoch {epoch}")
            save_picture(figure, self.folder / f"epoch-{epoch:04}.png")
            for board in boards:
                shades = np.asarray(figure.canvas.buffer_rgba())[..., :3]
                board.add_image("validation/patches", shades, epoch, dataformats="HWC")

    def _named(self, trainer: lightning.Trainer, own: Tensor, examples: Examples) -> _Named:
        """Tags in words, of every clip: its own and the highest from each source."""
        data: Any = getattr(trainer, "datamodule", None)
        known = data.names().get("vocabulary") if isinstance(data, TrainingData) else None
        names = known or [f"tag {number}" for number in range(own.shape[1])]
        count = min(self.top, own.shape[1])
        found = {"tags": [_words(names, row.nonzero()[:, 0].tolist()) for row in own]}
        for source, scores in examples.tags.items():
            best = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
            found[source] = [_words(names, row.tolist()) for row in best]
        return found


def _is_due(trainer: lightning.Trainer, every: int) -> bool:
    fitting = trainer.state.fn == "fit" and trainer.is_global_zero
    return fitting and trainer.current_epoch % every == 0


def _words(names: Sequence[str], places: Sequence[int]) -> list[str]:
    return [names[place] for place in places]


def _table(tags: _Named) -> str:
    """A Markdown table, a line for each clip."""
    lines = [["clip", *tags], ["---"] * (1 + len(tags))]
    rows = zip(*tags.values(), strict=True)
    lines += [
        [str(number), *(", ".join(words).replace("|", r"\|") for words in row)]
        for number, row in enumerate(rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw_examples(examples: Examples, tags: _Named, title: str) -> Any:
    """A column for each clip: its patch, what was made of it, and tags in words.

    Args:
        examples: Of `n` clips.
        tags: Words of each clip, by where they come from.
        title: Above the picture.

    Returns:
        A matplotlib figure.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    rows = [examples.patches] + ([] if examples.decoded is None else [examples.decoded])
    count = len(examples.patches)
    figure = new_figure(max(4.0, 1.6 * count), 1.8 * len(rows) + 0.7 + 0.14 * _most_lines(tags))
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, patches in zip(panels, rows, strict=True):
        for axes, patch in zip(line, patches.cpu().numpy(), strict=True):
            axes.imshow(patch, origin="lower", aspect="auto", cmap="magma", vmin=0.0, vmax=1.0)
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, caption in zip(panels[-1], _captions(tags), strict=True):
        axes.set_xlabel(caption, fontsize=6, parse_math=False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def _captions(tags: _Named) -> list[str]:
    """A word a line, each source under its name."""
    return [
        "\n".join(
            line
            for source, words in zip(tags, row, strict=True)
            for line in (f"- {source} -", *words)
        )
        for row in zip(*tags.values(), strict=True)
    ]


def _most_lines(tags: _Named) -> int:
    return max(caption.count("\n") + 1 for caption in _captions(tags))
