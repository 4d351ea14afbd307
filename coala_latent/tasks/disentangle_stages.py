"""The stages of ``coala-latent disentangle`` for one configuration, and what each of them reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from coala_latent.data.factor_sources import BuiltinRecordings
from coala_latent.data.factor_tables import FactorTable
from coala_latent.data.latent_instances import FinishedLatents
from coala_latent.data.latent_splits import split_latents
from coala_latent.data.latents import LabelledLatents, read_latents, write_latents
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import ConfigError
from coala_latent.registry import Card
from coala_latent.store import Store
from coala_latent.tasks.disentangle_report import write_report
from coala_latent.tasks.disentangle_steps import explore, held_out_effects, measure
from coala_latent.tasks.disentangler import (
    Disentangler,
    DisentanglerSettings,
    fit_disentangler,
    load_disentangler,
    save_disentangler,
)
from coala_latent.tasks.fitting import instantiated, versions
from coala_latent.tasks.latent_rows import (
    RowChoice,
    flat_embedder,
    latent_layer,
    latent_model,
)
from coala_latent.tasks.latents import extract_latents, project_layers
from coala_latent.tasks.stages import Folders, Stage
from coala_latent.tasks.stored_latents import fit_layer_projection, project_layer, stored_labels
from coala_latent.weights import write_json

__all__ = ["Disentangling"]

_COMPONENTS = 64
_Rows = npt.NDArray[np.intp]


class Disentangling:
    """The stages of one configuration.

    Args:
        config: See `compose_settings`.
        quiet: No progress.

    Raises:
        ConfigError: A setting is missing or does not make sense.
    """

    def __init__(self, config: DictConfig, quiet: bool = False) -> None:
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(" ".join(str(error).split())) from error
        self.config = config
        self.settings: dict[str, Any] = plain  # type: ignore[assignment]
        self.seed = int(self.settings["seed"])
        self.quiet = quiet
        self.source = instantiated(config.data)
        self.finished = isinstance(self.source, FinishedLatents)

    def stages(self) -> list[Stage]:
        """In order; a report comes last."""
        seed, chosen = {"seed": self.seed}, self.settings
        split = {name: chosen["latents"][name] for name in ("split", "share", "gap_seconds")}
        common = {"data": chosen["data"], "split": split, **seed}
        if self.finished:
            first = [self._stage("layers", (), common, self._given, self._inputs())]
            latents = "layers"
        else:
            latents = "latents"
            rows = {name: chosen["latents"][name] for name in ("average", "offset", "level")}
            heard = {"model": self.card.name, "weights": self.card.sha256, **rows, **common}
            components = {"components": chosen["latents"]["components"]}
            first = [
                self._stage("recordings", (), common, self._recordings, self._inputs()),
                self._stage(
                    "layers",
                    ("recordings",),
                    {**heard, **components, "layers": chosen["layers"]},
                    self._layers,
                ),
                self._stage(
                    "latents",
                    ("recordings",),
                    {**heard, "layer": self.layer, "rows": chosen["latents"]["rows"]},
                    self._latents,
                ),
            ]
        names = ("model", "patches", "objective", "flow", "latents")
        flow = {**{name: chosen[name] for name in names}, **common}
        needs = tuple(dict.fromkeys([*(() if self.finished else ("recordings",)), latents]))
        rest = [
            self._stage(
                "exploration", ("layers",), {**common, **chosen["exploration"]}, self._explore
            ),
            self._stage("flow", needs, flow, self._flow),
            self._stage(
                "measures", (*needs[:-1], "flow"), {**seed, **chosen["measures"]}, self._measure
            ),
        ]
        if not self.finished:
            rest.append(
                self._stage(
                    "transfer", (*needs, "flow"), {**seed, **chosen["transfer"]}, self._transfer
                )
            )
        before = tuple(stage.name for stage in (*first, *rest))
        report = self._stage("report", before, {"versions": versions()}, self._report)
        return [*first, *rest, report]

    def _stage(
        self,
        name: str,
        needs: tuple[str, ...],
        settings: dict[str, Any],
        run: Callable[[Path, Folders], None],
        inputs: Mapping[str, str] | None = None,
    ) -> Stage:
        return Stage(name, run, needs, settings, inputs or {})

    def _inputs(self) -> dict[str, str]:
        """What tells whether files from elsewhere have changed."""
        if isinstance(self.source, BuiltinRecordings):
            return {}
        root = Path(self.source.root)
        paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
        digest = hashlib.sha256()
        for path in paths:
            about = path.stat()
            name = path.relative_to(root).as_posix()
            digest.update(
                f"{name}\0{about.st_size} {about.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
        return {"files": digest.hexdigest()}

    @cached_property
    def card(self) -> Card:
        """Of the model whose latents are analysed."""
        return latent_model(self.settings["latents"]["model"])

    @property
    def layer(self) -> str:
        """Whose latents are taken apart."""
        return latent_layer(self.card, self.settings["latents"]["layer"])

    def _embedder(self, *layers: str) -> Embedder:
        wanted = list(layers) or self.settings["layers"]["names"] or self._maps()
        name = self.settings["latents"]["model"] or self.card.name
        return flat_embedder(name, wanted, "auto")

    def _maps(self) -> list[str]:
        """All layers but what is the network's answer."""
        outputs = [output for output in self.card.layers if output in ("logits", "z_d")]
        return [layer for layer in self.card.layers if layer not in outputs]

    def _choice(self, rows: int | None) -> RowChoice:
        chosen = self.settings["latents"]
        return RowChoice(chosen["average"], chosen["offset"], 1, rows)

    def _split(self, latents: LabelledLatents, needs: Folders) -> tuple[_Rows, _Rows]:
        """Numbers of the training and of the held-out rows."""
        if "recordings" in needs and self.settings["latents"]["split"] == "take":
            train = _train_recordings(needs["recordings"])[latents.recording]
            return np.flatnonzero(train), np.flatnonzero(~train)
        return self._split_rows(latents)

    def _split_rows(self, latents: LabelledLatents) -> tuple[_Rows, _Rows]:
        chosen = self.settings["latents"]
        return split_latents(
            latents, chosen["split"], chosen["share"], chosen["gap_seconds"], self.seed
        )

    def _split_recordings(self, table: FactorTable) -> list[bool]:
        """Which recordings are for training; all where they are split along time."""
        train = np.ones(len(table), bool)
        if self.settings["latents"]["split"] == "take":
            count = len(table)
            each = LabelledLatents(
                values=np.zeros((count, 1), np.float32),
                labels=table.labels,
                factors=table.factors,
                classes=table.classes,
                recording=np.arange(count),
                take=table.takes,
                start=np.zeros(count),
                end=np.ones(count),
            )
            train[self._split_rows(each)[1]] = False
        return train.tolist()

    def _recordings(self, folder: Path, needs: Folders) -> None:
        table = self.source.table(folder / "sounds")
        inside = isinstance(self.source, BuiltinRecordings)
        about = {
            "root": "sounds" if inside else str(table.root.resolve()),
            "names": table.names,
            "factors": table.factors,
            "classes": table.classes,
            "labels": table.labels.tolist(),
            "takes": table.takes.tolist(),
            "unmatched": dict(table.unmatched),
            "missing": table.missing(),
            "train": self._split_recordings(table),
        }
        write_json(folder / "table.json", about)

    def _layers(self, folder: Path, needs: Folders) -> None:
        table = read_table(needs["recordings"])
        chosen = self.settings["latents"]
        found = project_layers(
            table,
            self._embedder(),
            k=int(chosen["components"] or _COMPONENTS),
            train=_train_recordings(needs["recordings"]),
            choice=self._choice(self.settings["layers"]["rows"]),
            level=chosen["level"],
            quiet=self.quiet,
        )
        for layer, latents in found.latents.items():
            write_latents(folder / "layers" / layer, latents)
        about = {**found.to_dict(), "order": list(found.latents), "model": self.card.name}
        write_json(folder / "layers.json", about)

    def _given(self, folder: Path, needs: Folders) -> None:
        latents = self.source.load()
        write_latents(folder / "layers" / "latents", latents)
        about = {"layers": {"latents": {"values": latents.dim}}, "order": ["latents"]}
        write_json(folder / "layers.json", {**about, "model": None, "skipped": {}})

    def _latents(self, folder: Path, needs: Folders) -> None:
        extract_latents(
            read_table(needs["recordings"]),
            self._embedder(self.layer),
            folder,
            choice=self._choice(self.settings["latents"]["rows"]),
            level=self.settings["latents"]["level"],
            quiet=self.quiet,
        )

    def _explore(self, folder: Path, needs: Folders) -> None:
        order = json.loads((needs["layers"] / "layers.json").read_text("utf-8"))["order"]
        layers = {layer: read_latents(needs["layers"] / "layers" / layer) for layer in order}
        explore(layers, folder, self.settings["exploration"], self.seed)

    def _flow(self, folder: Path, needs: Folders) -> None:
        if self.finished:
            projection, latents = None, read_latents(needs["layers"] / "layers" / "latents")
            train, held_out = self._split(latents, needs)
        else:
            table = read_table(needs["recordings"])
            components = int(self.settings["latents"]["components"] or _COMPONENTS)
            with Store(needs["latents"] / f"{self.layer}.h5") as store:
                train, held_out = self._split(stored_labels(store, table), needs)
                projection = fit_layer_projection(store, components, rows=train)
                latents = project_layer(store, projection, table)
        fitted = fit_disentangler(
            latents.take_rows(train),
            latents.take_rows(held_out),
            self._flow_settings(),
            projection=projection,
            folder=folder / "run",
            quiet=self.quiet,
        )
        save_disentangler(folder / "disentangler", fitted)
        write_latents(folder / "latents", latents)

    def _flow_settings(self) -> DisentanglerSettings:
        model = dict(self.settings["model"])
        pairs = {
            name: value for name, value in self.settings["patches"].items() if name != "_target_"
        }
        return DisentanglerSettings(
            block=model.pop("block"),
            dims=model.pop("dims"),
            flow=model,
            pairs=pairs,
            loss=instantiated(self.config.objective.loss),
            noise=float(self.settings["objective"]["noise"]),
            epochs=int(self.settings["flow"]["epochs"]),
            learning_rate=float(self.settings["objective"]["optimizer"]["lr"]),
            seed=self.seed,
        )

    def _fitted(self, needs: Folders) -> tuple[Disentangler, LabelledLatents, _Rows, _Rows]:
        latents = read_latents(needs["flow"] / "latents")
        fitted = load_disentangler(needs["flow"] / "disentangler")
        return fitted, latents, *self._split(latents, needs)

    def _measure(self, folder: Path, needs: Folders) -> None:
        fitted, latents, train, held_out = self._fitted(needs)
        measure(fitted, latents, train, held_out, folder, self.settings["measures"], self.seed)

    def _transfer(self, folder: Path, needs: Folders) -> None:
        fitted, latents, _, held_out = self._fitted(needs)
        embedder = self._embedder(self.layer)
        with Store(needs["latents"] / f"{self.layer}.h5") as store:
            held_out_effects(
                fitted,
                embedder,
                store,
                latents,
                held_out,
                folder,
                self.settings["transfer"],
                self.seed,
            )

    def _report(self, folder: Path, needs: Folders) -> None:
        write_report(folder, needs, self.settings)


def read_table(folder: Path) -> FactorTable:
    """The recordings of a finished stage."""
    about = json.loads((folder / "table.json").read_text("utf-8"))
    root = folder / about["root"]
    return FactorTable(
        root=root,
        names=tuple(about["names"]),
        paths=tuple(root / name for name in about["names"]),
        factors=tuple(about["factors"]),
        classes=tuple(tuple(names) for names in about["classes"]),
        labels=np.array(about["labels"], dtype=np.int64),
        takes=np.array(about["takes"], dtype=np.int64),
        unmatched=about["unmatched"],
    )


def _train_recordings(folder: Path) -> npt.NDArray[np.bool_]:
    return np.array(json.loads((folder / "table.json").read_text("utf-8"))["train"], dtype=bool)
