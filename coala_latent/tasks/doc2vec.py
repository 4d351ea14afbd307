"""``coala-latent doc2vec train``: document vectors of recordings, in a folder to go on from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from coala_latent.data.frame_files import FrameFiles
from coala_latent.data.frame_pairs import FramePairs, RecordingFrames, hold_out
from coala_latent.embed.embedder import pick_device
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.store.schema import printable_text
from coala_latent.tasks.doc2vec_folder import SavedVectors, VectorFolder
from coala_latent.tasks.doc2vec_settings import Doc2VecSettings
from coala_latent.tasks.fitting import hush_lightning
from coala_latent.tasks.progress import progress_bar
from coala_latent.training.document_vectors import DocumentVectors, EpochReport

__all__ = ["frame_seconds", "recording_seconds", "sounds_root", "train_doc2vec"]

_BACKGROUND = 512
_HOP = 0.1


def train_doc2vec(
    frames: Path, output: Path, settings: Doc2VecSettings, *, quiet: bool = False
) -> dict[str, Any]:
    """Train, or go on with the training in a folder.

    Args:
        frames: Folder or store; see `FrameFiles`.
        output: See `coala_latent.tasks.doc2vec_folder`. A folder of sound-eval is gone on with in
            compat mode, as it did so itself: with fresh moments of Adam.
        settings: See there.
        quiet: No progress.

    Returns:
        JSON-able: ``output``, ``saves`` (number of the last), ``epochs``, ``steps``, ``pairs``,
        ``loss``, ``held_out_loss``, ``auc`` of the last epoch, ``saved_step`` (of the weights that
        count: those of the lowest held-out loss, or the last), ``recordings``, ``without_frames``
        (names), and ``ended``: ``flat``, ``epochs`` or ``stopped`` (Ctrl-C).

    Raises:
        ConfigError: A setting does not make sense, or is not that of the folder's training.
        DataError: The frames cannot be used, or are not those of the folder's training.
    """
    hush_lightning()
    if settings.accelerator in ("cuda", "mps"):
        pick_device(settings.accelerator)
    files = FrameFiles(frames)
    settings.check_frames(files)
    with VectorFolder(output) as folder:
        _check_list(folder.saved, files)
        mapped = output / ".frames.npy" if settings.frames == "mapped" else None
        try:
            recordings = RecordingFrames.load(files, mapped)
            run = _Run(folder, files, recordings, settings)
            with progress_bar(quiet=quiet) as bar:
                run.fit(bar)
        finally:
            if mapped is not None:
                mapped.unlink(missing_ok=True)
    return run.summary()


class _Run:
    """One training, from the folder's last save to the next reason to end."""

    def __init__(
        self,
        folder: VectorFolder,
        files: FrameFiles,
        recordings: RecordingFrames,
        settings: Doc2VecSettings,
    ) -> None:
        self.folder = folder
        self.files = files
        self.settings = settings
        self._about = {
            "settings": settings.identity(),
            "frames": {
                "sha256": recordings.sha256(),
                "width": files.width,
                "recordings": len(files),
                "frames": len(recordings.frames),
                "settings": files.settings,
            },
            "root": sounds_root(files),
        }
        saved = folder.saved
        if saved is not None:
            _check_run(saved, self._about)
        model = saved.model.train() if saved is not None else self._new_model(recordings)
        self.objective = self._objective(model, recordings)
        self._kept = self._kept_tensors(recordings, saved)
        self._training: dict[str, Any] = {}
        if saved is not None and not saved.original:
            self.objective.restore(saved.state)
            self._training = dict(saved.manifest["training"])
        self._stopped = False

    def _new_model(self, recordings: RecordingFrames) -> Doc2Vec:
        chosen = self.settings
        model = Doc2Vec(
            len(self.files),
            self.files.width,
            chosen.hidden,
            chosen.dim,
            compat=chosen.compat,
            seed=chosen.seed,
        )
        return model if chosen.compat else model.standardise_(*recordings.standardisation())

    def _objective(self, model: Doc2Vec, recordings: RecordingFrames) -> DocumentVectors:
        chosen, held_out = self.settings, None
        stretch = None
        if not chosen.compat and chosen.held_out:
            stretch = hold_out(recordings.starts, chosen.held_out, chosen.seed)
            if (stretch[0] < stretch[1]).any():
                held_out = FramePairs(
                    recordings, chosen.batch_size, chosen.window, stretch=stretch, inside=True
                )
        pairs = FramePairs(
            recordings, chosen.batch_size, chosen.window, compat=chosen.compat, stretch=stretch
        )
        return DocumentVectors(model, pairs, chosen.steps, held_out, chosen.flattening)

    def _kept_tensors(
        self, recordings: RecordingFrames, saved: SavedVectors | None
    ) -> dict[str, Tensor]:
        if saved is not None and not saved.original:
            return {name: saved.state[name] for name in ("lengths", "durations", "background")}
        sampler = FramePairs(recordings, _BACKGROUND, 1)
        drawn = sampler.draw(1, torch.Generator().manual_seed(self.settings.seed))
        return {
            "lengths": torch.from_numpy(recordings.lengths),
            "durations": torch.from_numpy(recording_seconds(self.files)),
            "background": sampler.batch(drawn, 0).frames.clone(),
        }

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return self.objective.steps_done // self.objective.settings.steps

    @property
    def ended(self) -> str | None:
        """Why no step follows."""
        if self.objective.flattening.ended:
            return "flat"
        if self.settings.epochs is not None and self.epoch >= self.settings.epochs:
            return "epochs"
        return "stopped" if self._stopped else None

    def fit(self, bar: Progress) -> None:
        """Train until there is a reason to end."""
        if self.ended is not None and self.folder.saved is not None:
            return
        if self.folder.saved is None:
            self.folder.begin(self.files.music_list, self.settings.original(self.files))
        task = bar.add_task("doc2vec", total=None, note="")
        trainer = lightning.Trainer(
            accelerator=self.settings.accelerator,
            devices=1,
            precision=self.settings.precision,  # type: ignore[arg-type]
            min_epochs=0,
            max_epochs=-1,
            logger=False,
            callbacks=[_Saving(self, bar, task)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=str(self.folder.folder),
        )
        device = trainer.strategy.root_device
        for pairs in self.objective.samplers:
            pairs.to(device, frames=self.settings.frames == "device")
        with self._interruptible():
            trainer.fit(self.objective)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the training after the block, a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def save(self, report: EpochReport | None) -> None:
        """Make where the run is the folder's save."""
        state = {**self.objective.state(), **self._kept}
        if report is not None:
            self._training = {
                "epochs": self.epoch,
                "steps": report.step,
                "pairs": report.step * self.settings.batch_size,
                "loss": report.loss,
                "held_out_loss": report.held_out_loss,
                "auc": report.auc,
                "saved_step": state["steps"],
            }
        about = {**self._about, "training": self._training}
        self.folder.save(state, about, None if report is None else report.loss)

    def summary(self) -> dict[str, Any]:
        """What the training came to."""
        saved = self.folder.saved
        assert saved is not None
        lengths = saved.state["lengths"].tolist()
        return {
            "output": str(self.folder.folder),
            "saves": saved.number,
            "recordings": len(saved.names),
            "without_frames": [
                name for name, length in zip(saved.names, lengths, strict=True) if not length
            ],
            **self._training,
            "ended": self.ended,
        }


class _Saving(lightning.Callback):
    """Saves at the beginning and after each epoch, and ends the training."""

    def __init__(self, run: _Run, bar: Progress, task: TaskID) -> None:
        self._run, self._bar, self._task = run, bar, task

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """The first save, of what no step has changed."""
        if self._run.folder.saved is None:
            self._run.save(None)
        trainer.should_stop = self._run.ended is not None

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """After a block."""
        run = self._run
        self._bar.update(
            self._task,
            total=run.objective.settings.steps * (run.settings.epochs or run.epoch + 1),
            completed=run.objective.steps_done,
        )
        if run.ended == "stopped":
            trainer.should_stop = True

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """After an epoch, or what there was of it before a stop."""
        run = self._run
        report = run.objective.finish_epoch()
        run.save(report)
        held = "" if report.auc is None else f", AUC {report.auc:.3f}"
        self._bar.update(self._task, note=f"loss {report.loss:.4f}{held}")
        if run.ended is not None:
            trainer.should_stop = True


def frame_seconds(settings: Mapping[str, Any]) -> float:
    """Seconds from frame to frame; a tenth, as sound-eval's, where the settings do not say."""
    hop = settings.get("hop", settings.get("TIME_SEGMENT_SIZE", _HOP))
    return float(hop) if isinstance(hop, int | float) else _HOP


def sounds_root(files: FrameFiles) -> str | None:
    """Folder of the sounds, so that a map of the vectors finds them."""
    return None if files.root is None else printable_text(str(files.root))


def recording_seconds(files: FrameFiles) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Duration of each recording; by its frames where it is not known."""
    hop = frame_seconds(files.settings)
    return np.array(
        [
            length * hop if duration is None else duration
            for length, duration in zip(files.lengths, files.durations, strict=True)
        ],
        dtype=np.float64,
    )


def _check_list(saved: SavedVectors | None, files: FrameFiles) -> None:
    """Whether the recordings are those of the folder, in its order."""
    if saved is None or saved.music_list == files.music_list:
        return
    then, now = saved.names, files.names
    new = [name for name in now if name not in set(then)]
    gone = [name for name in then if name not in set(now)]
    told = [
        f"{len(names)} {word} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for word, names in (("new", new), ("missing", gone))
        if names
    ] or [f"another order (first {then[0]}, now {now[0]})"]
    raise DataError(
        f"{saved.folder} was trained on other recordings: {', '.join(told)} (use another folder, "
        "or coala-latent doc2vec infer for vectors of new recordings)"
    )


def _check_run(saved: SavedVectors, about: Mapping[str, Any]) -> None:
    """Whether settings and frames are those of the folder's training."""
    wanted = about["settings"]
    if saved.original:
        if not wanted["compat"]:
            raise ConfigError(f"{saved.folder} is sound-eval's (go on with compat=true)")
        model = saved.model
        then = {"bands": model.bands, "hidden": model.hidden, "dim": model.dim}
        now = {"bands": about["frames"]["width"], "hidden": wanted["hidden"], "dim": wanted["dim"]}
    else:
        then, now = dict(saved.manifest["settings"]), dict(wanted)
    different = [
        f"{key}: {then.get(key)} there, {now.get(key)} here"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    if different:
        raise ConfigError(
            f"{saved.folder} holds a training with other settings ({'; '.join(different)}): use "
            "its settings, or another folder"
        )
    if saved.original:
        return
    then, now = saved.manifest["frames"], dict(about["frames"])
    parts = [("bands", then["width"], now["width"])]
    known, given = then["settings"], now["settings"]
    parts += [(key, known.get(key), given.get(key)) for key in sorted({*known, *given})]
    told = [f"{name}: {old} there, {new} here" for name, old, new in parts if old != new]
    if told or then["sha256"] != now["sha256"]:
        how = "; ".join(told) or "the same settings give other values: the sounds have changed"
        raise DataError(
            f"{saved.folder} was trained on other frames ({how}): use those, or another folder"
        )
