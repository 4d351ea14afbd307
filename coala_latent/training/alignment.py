"""COALA's objective: reconstruct sounds and tags, and align their embeddings.

Source: Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386), section 2.4.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError
from coala_latent.models.coala import Coala
from coala_latent.training.augment import PatchAugment, hide_tags
from coala_latent.training.gathering import gather_pairs
from coala_latent.training.losses import ContrastiveLoss, generalised_kl, tag_bce
from coala_latent.training.metrics import clip_means, retrieval_scores
from coala_latent.training.objective import (
    Examples,
    OptimizerFactory,
    PatchObjective,
    SchedulerFactory,
)

__all__ = ["CoalaAlignment"]


class CoalaAlignment(PatchObjective):
    """One weighted sum of reconstruction of sounds, reconstruction of tags, and alignment.

    Each term is logged unweighted. Where several processes train, sounds and tags of all of them
    are aligned with each other. After each epoch the whole validation set is embedded, a clip as
    the mean of its patches, and `retrieval_scores` are logged.

    Args:
        model: In training.
        contrastive: Loss of ``z_d`` of sounds and tags.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        augment: See `PatchObjective`; the sound is reconstructed without the gaps.
        audio_weight: Of the generalised KL of patches; the paper's AE-C has 5.
        tag_weight: Of the binary cross-entropy of tags; the paper's AE-C has 5.
        contrastive_weight: Of the alignment; the paper has 10.
        tag_masking: Share of the tags of a set (of two and more, rounded down) that the encoder of
            tags does not see in training; all are to be reconstructed. The original's branch
            ``tag-masking`` has 0.4.

    Raises:
        ConfigError: A reconstruction has a weight, but the model has no decoder for it; or
            `tag_masking` is not within [0, 1).
    """

    monitor: ClassVar[str] = "validation/audio_to_tags_map"
    model: Coala

    def __init__(
        self,
        model: Coala,
        contrastive: ContrastiveLoss,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        augment: PatchAugment | None = None,
        audio_weight: float = 5.0,
        tag_weight: float = 5.0,
        contrastive_weight: float = 10.0,
        tag_masking: float = 0.0,
    ) -> None:
        super().__init__(model, optimizer, scheduler, augment)
        for what, weight, decoder in (
            ("audio_weight", audio_weight, model.audio_decoder),
            ("tag_weight", tag_weight, model.tag_decoder),
        ):
            if weight and decoder is None:
                raise ConfigError(f"{what}={weight}, but the model is built without decoders")
        if not 0 <= tag_masking < 1:
            raise ConfigError(f"tag_masking={tag_masking}: use 0 (none) or a number below 1")
        self.contrastive = contrastive
        self.tag_masking = tag_masking
        self.weights = {
            "audio": audio_weight,
            "tags": tag_weight,
            "contrastive": contrastive_weight,
        }
        self._sounds: list[tuple[Tensor, Tensor, Tensor]] = []
        self._tags: dict[int, Tensor] = {}
        self._train_sums: dict[str, Tensor | float] = {}
        self._heard_patches = 0

    def losses(self, batch: PatchBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Unweighted terms, and ``z_d`` ``(batch, dim)`` of the sounds.

        Where processes have batches of different sizes, the terms of reconstruction count by size:
        the mean over processes is the mean over all patches.
        """
        heard, target = self.inputs(batch)
        masked = self.training and self.tag_masking > 0
        read = hide_tags(batch.tags, self.tag_masking) if masked else batch.tags
        output = self.model(heard, read)
        a, b, tags, share = output.audio_z_d, output.tag_z_d, batch.tags, 1.0
        # Every process validates on the whole part, so there is nothing to gather then.
        if self.training:
            a, b, tags, share = gather_pairs(a, b, tags)
        terms = {"contrastive": self.contrastive(a, b, tags)}
        if output.patches is not None:
            terms["audio"] = share * generalised_kl(output.patches, self.front_end.unit(target))
        if output.tag_logits is not None:
            terms["tags"] = share * tag_bce(output.tag_logits, batch.tags)
        return terms, output.audio_z_d

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def training_step(self, batch: PatchBatch, index: int) -> Tensor:
        """Loss of one batch."""
        terms, _ = self.losses(batch)
        total = self.total(terms)
        told = {**terms, "total": total, "temperature": self.contrastive.temperature}
        # Lightning's own means over an epoch cost more than a millisecond a step for each value.
        size = len(batch.clip)
        self._heard_patches += size
        for name, value in told.items():
            self._train_sums[name] = self._train_sums.get(name, 0.0) + size * value.detach()
        return total

    def on_train_epoch_end(self) -> None:
        """Log the means over the epoch's patches."""
        for name, value in self._train_sums.items():
            self.log(f"train/{name}", value / self._heard_patches, sync_dist=True)
        self._train_sums.clear()
        self._heard_patches = 0

    def validation_step(self, batch: PatchBatch, index: int) -> None:
        """Losses of one batch, and what retrieval needs of it."""
        terms, z_d = self.losses(batch)
        for name, term in {**terms, "total": self.total(terms)}.items():
            self.log(f"validation/{name}", term, batch_size=len(batch.clip), sync_dist=True)
        heard = batch.mask.float().mean(1)
        self._sounds.append((z_d.float().cpu(), batch.clip.cpu(), heard.cpu()))
        self._tags.update(zip(batch.clip.tolist(), batch.tags.cpu(), strict=True))

    def examples(self, batch: PatchBatch) -> Examples:
        """Patches before and after, tags by nearness to the sound, and tags before and after."""
        heard, target = self.inputs(batch)
        output = self.model(heard, batch.tags)
        tags = {"heard": self.model.score("tags", output.audio_z_d).float()}
        if output.tag_logits is not None:
            tags["decoded"] = output.tag_logits.float().sigmoid()
        decoded = None if output.patches is None else output.patches[:, 0].float()
        return Examples(self.front_end.unit(target)[:, 0].float(), decoded, tags)

    def on_validation_epoch_end(self) -> None:
        """Log retrieval on the whole validation set."""
        rows, clip, heard = (torch.cat(part) for part in zip(*self._sounds, strict=True))
        present, sounds = clip_means(rows, clip, heard)
        tags = torch.stack([self._tags[number] for number in present.tolist()])
        sets, own = tags.unique(dim=0, return_inverse=True)
        embedded = self.model.tag_encoder(sets.to(self.device))[1].float().cpu()
        for name, score in retrieval_scores(sounds, embedded, own).items():
            self.log(
                f"validation/{name}", score, prog_bar=name == "audio_to_tags_map", sync_dist=True
            )
        self._sounds.clear()
        self._tags.clear()
