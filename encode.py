"""Embed sounds: ``python encode.py FOLDER --output FILE.h5 --model NAME``, and the same from code.

from encode import return_loaded_model, extract_audio_embedding_chunks
"""

from coala_latent.embed.original import (
    extract_audio_embedding,
    extract_audio_embedding_chunks,
    extract_tag_embedding,
    return_loaded_model,
)

__all__ = [
    "extract_audio_embedding",
    "extract_audio_embedding_chunks",
    "extract_tag_embedding",
    "return_loaded_model",
]

if __name__ == "__main__":
    import sys

    from coala_latent.cli import encode_command

    encode_command(sys.argv[1:], prog_name="encode.py")
