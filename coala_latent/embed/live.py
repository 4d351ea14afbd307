"""Embedding a sound while it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from coala_latent.audio.io import Channels, mix_channels
from coala_latent.audio.resample import StreamResampler
from coala_latent.embed.blocks import Block
from coala_latent.embed.hearing import Hearing, joined
from coala_latent.embed.sources import as_sound, pieces, whole_rate
from coala_latent.embed.stream import Short
from coala_latent.errors import AudioEmptyError, AudioValueError
from coala_latent.types import Embedding, FloatArray

__all__ = ["StreamEncoder"]

_SOURCE = "stream"


class StreamEncoder:
    """The rows of a sound as its samples come: the rows that the whole sound would give.

    A row is given as soon as the samples it hears have arrived: with the first sample of a row in
    hand, that is `latency_seconds` later, and a few milliseconds more where the sound must be
    resampled.

    Made by `Embedder.stream`.

    Args:
        hearing: The model, its layers and pooling.
        short: What to do when the sound turns out shorter than one row.
        channels: ``"mean"`` or ``"first"``.
        sample_rate: Of the samples that will be pushed, in Hz.

    Attributes:
        latency_seconds: From a row's first sample until the row, for these layers and this row; the
            card has it for the model's default layer, and ``timing`` for others.

    Raises:
        AudioValueError: The rate is no whole number above 0.
    """

    def __init__(
        self, hearing: Hearing, short: Short, channels: Channels, sample_rate: int
    ) -> None:
        cutter = hearing.cutter(short)
        self.sample_rate = whole_rate(sample_rate, _SOURCE)
        self._channels = channels
        self._dim = sum(hearing.sizes.values())
        self._target_rate = cutter.sample_rate
        self._resampler = StreamResampler(self.sample_rate, cutter.sample_rate)
        self._blocks = cutter.begin(_SOURCE)
        self._rows = hearing.listen()
        self.latency_seconds = hearing.latency_seconds
        self._begun = False
        self._ended = False

    def push(self, samples: Any) -> Embedding:
        """Add samples ``(time,)`` or ``(channels, time)``; any number of them, also none.

        Returns:
            The rows that these samples complete; often none.

        Raises:
            AudioValueError: The samples cannot be used, or the stream has been finished.
        """
        self._check_open()
        if (samples.numel() if isinstance(samples, torch.Tensor) else np.size(samples)) == 0:
            return joined([], self._dim)
        self._begun = True
        sound = as_sound(samples, self.sample_rate, _SOURCE).samples
        mono = sound if sound.ndim == 1 else mix_channels(sound, self._channels)
        return joined([self._rows(block) for block in self._push(mono)], self._dim)

    def finish(self) -> Embedding:
        """The sound is over: the rows that remain.

        Raises:
            AudioTooShortError: It is shorter than one row and `short` is ``"error"``.
            AudioEmptyError: No samples were pushed.
            AudioValueError: The stream has been finished already.
        """
        self._check_open()
        self._ended = True
        if not self._begun:
            raise AudioEmptyError(_SOURCE, "no samples", "push at least one")
        blocks = [self._blocks.push(self._resampler.finish()), self._blocks.finish()]
        return joined([self._rows(block) for block in blocks], self._dim)

    def _push(self, mono: FloatArray) -> Iterator[Block]:
        for piece in pieces(self._resampler, mono, self.sample_rate, self._target_rate):
            yield self._blocks.push(piece)

    def _check_open(self) -> None:
        if self._ended:
            raise AudioValueError(_SOURCE, "was finished", "begin another with embedder.stream()")
