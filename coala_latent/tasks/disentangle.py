"""``coala-latent disentangle``: what a network's latents know of factors, taken apart and tested.

After LatentAudio (TimHenry1995/LatentAudio, no licence stated): latents of all layers are explored,
those of one layer are taken apart by a factor flow, and edited latents go back through the rest of
the network. Each step is a stage (see `coala_latent.tasks.stages`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from coala_latent.tasks.composing import composed
from coala_latent.tasks.disentangle_stages import Disentangling
from coala_latent.tasks.fitting import hush_lightning
from coala_latent.tasks.stages import StageRun, Stages

__all__ = ["compose_settings", "disentangle"]


def compose_settings(overrides: Collection[str]) -> DictConfig:
    """The configuration ``disentangle`` with overrides ``key=value``.

    Raises:
        ConfigError: An override does not make sense.
    """
    return composed("disentangle", overrides)


def disentangle(
    config: DictConfig,
    output: Path,
    *,
    stage: str | None = None,
    again: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the analysis, or one stage of it with those it needs.

    Args:
        config: See `compose_settings`.
        output: Folder for the stages' results, ``report.html`` and ``results.json``.
        stage: Name of one stage; all by default.
        again: Run that stage (or all) although nothing has changed.
        quiet: No progress.

    Returns:
        JSON-able: ``stages`` (whether each was cached, its seconds), ``report`` and ``results``,
        paths, where there is a report.

    Raises:
        CoalaLatentError: The analysis cannot run.
    """
    hush_lightning()
    analysis = Disentangling(config, quiet)
    stages = Stages(output, analysis.stages())
    wanted = [stage] if stage else []
    every = [each.name for each in analysis.stages()] if again and not stage else wanted
    runs = stages.run(wanted, again=every if again else (), quiet=quiet)
    result: dict[str, Any] = {"stages": _told(runs)}
    if "report" in runs:
        folder = runs["report"].folder
        result |= {"report": str(folder / "report.html"), "results": str(folder / "results.json")}
    return result


def _told(runs: Mapping[str, StageRun]) -> dict[str, Any]:
    return {
        name: {"cached": run.cached, "seconds": run.seconds, "key": run.key}
        for name, run in runs.items()
    }
