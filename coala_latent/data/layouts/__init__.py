"""Readers of public benchmarks as their archives unpack: which sounds, labels, folds or split."""

from coala_latent.data.layouts.benchmark import Benchmark
from coala_latent.data.layouts.esc import read_esc10, read_esc50
from coala_latent.data.layouts.gtzan import read_gtzan
from coala_latent.data.layouts.nsynth import read_nsynth
from coala_latent.data.layouts.us8k import read_us8k
from coala_latent.data.layouts.vectors import EmbeddingSet, find_embeddings, load_vector

__all__ = [
    "Benchmark",
    "EmbeddingSet",
    "find_embeddings",
    "load_vector",
    "read_esc10",
    "read_esc50",
    "read_gtzan",
    "read_nsynth",
    "read_us8k",
]
