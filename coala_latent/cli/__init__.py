"""The command line: parses and calls tasks.

Exit status: 0 all good, 1 some sounds were skipped, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import click

import coala_latent
from coala_latent.cli.build_dataset import build_dataset_command
from coala_latent.cli.classify import classify_command
from coala_latent.cli.clusters import clusters_command
from coala_latent.cli.concepts import concepts_group
from coala_latent.cli.disentangle import disentangle_command
from coala_latent.cli.doc2vec import doc2vec_group
from coala_latent.cli.encode import encode_command
from coala_latent.cli.export import export_command
from coala_latent.cli.models import models_command
from coala_latent.cli.options import HELP, ReportingGroup
from coala_latent.cli.predict import predict_command
from coala_latent.cli.probe import probe_command
from coala_latent.cli.scores import (
    esc10_command,
    esc50_command,
    gtzan_command,
    nsynth_command,
    us8k_command,
)
from coala_latent.cli.search import search_command
from coala_latent.cli.similarity import pairs_command, similarity_command
from coala_latent.cli.sound_map import map_command
from coala_latent.cli.spectrify import spectrify_command
from coala_latent.cli.store import store_group
from coala_latent.cli.train import sounds_command, train_command
from coala_latent.cli.weights import weights_group

__all__ = ["encode_command", "main"]


@click.group(cls=ReportingGroup, context_settings=HELP)
@click.version_option(coala_latent.__version__, prog_name="coala-latent")
def main() -> None:
    """Audio representation models: train them, and turn any sound into embeddings."""


for _command in (
    encode_command,
    train_command,
    predict_command,
    search_command,
    map_command,
    clusters_command,
    classify_command,
    spectrify_command,
    doc2vec_group,
    disentangle_command,
    concepts_group,
    probe_command,
    esc10_command,
    esc50_command,
    us8k_command,
    gtzan_command,
    nsynth_command,
    similarity_command,
    pairs_command,
    models_command,
    weights_group,
    store_group,
    export_command,
    build_dataset_command,
    sounds_command,
):
    main.add_command(_command)
