"""``coala-latent spectrify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import EXIT_STATUS, INTERRUPTED, Reporting, fail, json_option
from coala_latent.tasks.progress import console

__all__ = ["spectrify_command"]

# The names of audio.sound_eval.PRESETS, which is not imported before a command runs.
_PRESETS = ("default", "small", "opt", "aggressive")


@click.command("spectrify", cls=Reporting, epilog=EXIT_STATUS)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["standard", "sound_eval"]),
    default="standard",
    show_default=True,
    help="standard hears every sample; sound_eval has exactly the original's frames.",
)
@click.option(
    "--preset",
    type=click.Choice(_PRESETS),
    default="default",
    show_default=True,
    help="Sample rate, bands and hop of sound-eval's configurations; the options below go before.",
)
@click.option("--sample-rate", type=click.IntRange(1), help="In Hz. [default: 16000]")
@click.option("--mel-bins", "bands", type=click.IntRange(1), help="Mel bands. [default: 64]")
@click.option("--hop", type=float, help="Seconds between frames. [default: 0.1]")
@click.option("--low", type=float, help="Lower edge of the lowest band in Hz. [default: 80]")
@click.option("--high", type=float, help="Upper edge of the highest band in Hz. [default: 7600]")
@click.option("--hdf5", is_flag=True, help="One store, as for an OUTPUT that ends in .h5.")
@click.option("--keep-truncated", is_flag=True, help="Use what is there of files cut short.")
@click.option("--workers", type=click.IntRange(1), help="Threads; one a core by default.")
@click.option("--retry-failed", is_flag=True, help="Try files again that failed earlier.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
@click.pass_context
def spectrify_command(
    context: click.Context,
    inputs: tuple[Path, ...],
    output: Path,
    form: Any,
    preset: str,
    hdf5: bool,
    keep_truncated: bool,
    workers: int | None,
    retry_failed: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Log-mel frames of the sounds in folders and files: the same folders, with .npy files.

    Sounds that have their frames and have not changed are not done again. What cannot be used is
    listed in failed.csv in OUTPUT, in a store in its list of files. Write -- before a name that
    begins with a dash.
    """
    from dataclasses import replace

    from coala_latent.audio.sound_eval import PRESETS
    from coala_latent.tasks.spectrify import spectrify

    given = {name: value for name, value in settings.items() if value is not None}
    out = console()
    try:
        summary = spectrify(
            inputs,
            output,
            replace(PRESETS[preset], format=form, **given),
            hdf5=hdf5,
            keep_truncated=keep_truncated,
            workers=workers,
            retry_failed=retry_failed,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        fail(context, "interrupted: run the same command again to go on", INTERRUPTED)
        return
    for entry in summary.skipped:
        out.print(f"skipped {entry['path']}: {entry['error']}", markup=False, soft_wrap=True)
    if summary.skipped and not retry_failed:
        out.print("skipped sounds are tried again with --retry-failed, or when they change")
    values = summary.to_dict()
    for name in values["changed"]:
        note = f"changed since its frames were stored, the old ones are kept: {name}"
        out.print(note, markup=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(values, indent=2))
    else:
        speed = f", {summary.times_real_time:.0f} x real time" if summary.made else ""
        out.print(
            f"{summary.made} sounds done, {summary.already_done} already there, "
            f"{len(summary.skipped)} skipped; {summary.frames} frames{speed} -> {summary.output}",
            markup=False,
            soft_wrap=True,
        )
    context.exit(summary.exit_status)
