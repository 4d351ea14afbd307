"""Settings of document vectors, as Hydra composes them, and what of them a run keeps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from omegaconf import OmegaConf

from coala_latent.data.frame_files import FrameFiles
from coala_latent.errors import ConfigError
from coala_latent.tasks.composing import composed
from coala_latent.training.document_vectors import DocumentSteps, Flattening

__all__ = ["Doc2VecSettings", "FramePlace", "compose_doc2vec"]

FramePlace = Literal["device", "memory", "mapped"]
_NUMBERS = (
    *("learning_rate", "document_rate", "word_dropout", "prior", "held_out"),
    *("least", "factor"),
)
_ACCELERATORS = ("auto", "cpu", "cuda", "mps")
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# When a run ends and where it works may change while it pauses.
_FREE = (
    *("epochs", "patience", "least", "cuts"),
    *("accelerator", "frames", "bands", "sample_rate"),
)


@dataclass(frozen=True)
class Doc2VecSettings:
    """The keys of ``configs/doc2vec.yaml``, which says what they mean.

    Raises:
        ConfigError: A value does not make sense.
    """

    compat: bool
    seed: int
    epochs: int | None
    bands: int | None
    sample_rate: int | None
    hidden: int
    dim: int
    window: int
    batch_size: int
    negatives: int
    learning_rate: float
    document_rate: float
    word_dropout: float
    prior: float
    held_out: float
    pairs_per_save: int
    patience: int | None
    least: float
    factor: float
    cuts: int
    accelerator: str
    precision: str
    frames: FramePlace
    block: int

    def __post_init__(self) -> None:
        for name in ("hidden", "dim", "batch_size", "pairs_per_save", "negatives", "block"):
            self._check(name, _whole(getattr(self, name), 1), "a whole number of 1 or more")
        for name in ("epochs", "patience", "bands", "sample_rate"):
            value = getattr(self, name)
            self._check(name, value is None or _whole(value, 1), "null, or 1 or more")
        for name, least in (("window", 0 if self.compat else 1), ("seed", 0), ("cuts", 0)):
            self._check(name, _whole(getattr(self, name), least), f"a whole number from {least} on")
        for name in _NUMBERS:
            value = getattr(self, name)
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            self._check(name, plain and 0 <= value < float("inf"), "a number from 0 on")
        self._check("factor", 0 < self.factor <= 1, "a number up to 1")
        self._check("compat", isinstance(self.compat, bool), "true or false")
        self._check("frames", self.frames in get_args(FramePlace), "device, memory or mapped")
        self._check("accelerator", self.accelerator in _ACCELERATORS, ", ".join(_ACCELERATORS))
        self._check("precision", self.precision in _PRECISIONS, ", ".join(_PRECISIONS))
        if self.pairs_per_save < self.batch_size:
            raise ConfigError(
                f"pairs_per_save={self.pairs_per_save}: less than a batch of {self.batch_size}"
            )

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise ConfigError(f"{name}={getattr(self, name)!r}: use {wanted}")

    @property
    def steps(self) -> DocumentSteps:
        """What the training needs of them."""
        return DocumentSteps(
            self.learning_rate,
            self.document_rate,
            self.negatives,
            self.word_dropout,
            self.prior,
            self.pairs_per_save // self.batch_size,
            self.block,
            self.seed,
        )

    @property
    def flattening(self) -> Flattening:
        """When the training ends by itself."""
        return Flattening(self.patience, self.least, self.factor, self.cuts)

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}

    def check_frames(self, files: FrameFiles) -> None:
        """Compare with the frames.

        Raises:
            ConfigError: The configuration is for frames of other bands or another sample rate.
        """
        rate = files.settings.get("sample_rate", self.sample_rate)
        for name, wanted, found in (
            ("bands", self.bands, files.width),
            ("sample_rate", self.sample_rate, rate),
        ):
            if wanted is not None and found != wanted:
                raise ConfigError(
                    f"{files.path}: frames with {name} {found}, the configuration is for {wanted} "
                    f"(make others with coala-latent spectrify --preset, or use {name}=null)"
                )

    def original(self, files: FrameFiles) -> dict[str, Any]:
        """The original's ``config.yaml``, by which its tools know the sizes."""
        return {
            "SAMPLERATE": files.settings.get("sample_rate", self.sample_rate or 16000),
            "TIME_SEGMENT_SIZE": files.settings.get("hop", 0.1),
            "WINDOW_SIZE": self.window,
            "TRAIN_STEPS_PER_SAVE": self.pairs_per_save,
            "NUM_MEL_BINS": files.width,
            "HIDDEN_SIZE": self.hidden,
            "OUTPUT_VECTOR_SIZE": self.dim,
            "BATCH_SIZE": self.batch_size,
            "ADAM_learning_rate": self.learning_rate,
            "USE_GPU": self.accelerator not in ("auto", "cpu"),
        }


def compose_doc2vec(overrides: Collection[str]) -> Doc2VecSettings:
    """The configuration ``doc2vec`` with overrides ``key=value``.

    Raises:
        ConfigError: An override does not make sense.
    """
    values = OmegaConf.to_container(composed("doc2vec", overrides), resolve=True)
    try:
        return Doc2VecSettings(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"doc2vec: {error}") from error


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
