"""Weights in and out of files, without pickles."""

from coala_latent.weights.files import (
    file_sha256,
    load_into,
    read_weights,
    write_json,
    write_weights,
)

__all__ = ["file_sha256", "load_into", "read_weights", "write_json", "write_weights"]
