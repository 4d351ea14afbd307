"""``coala-latent models``: which models there are, and the card of one."""

from __future__ import annotations

import json

import click

from coala_latent.cli.options import json_option, print_listing
from coala_latent.tasks.progress import console

__all__ = ["models_command"]


@click.command("models")
@click.argument("name", required=False)
@click.option("--tests", is_flag=True, help="Tiny random models for tests too.")
@json_option
def models_command(name: str | None, tests: bool, as_json: bool) -> None:
    """List the models, or show the card of one."""
    from coala_latent.registry import list_models, model_card

    if name:
        click.echo(json.dumps(model_card(name).to_dict(), indent=2, ensure_ascii=False))
        return
    names = [each for each in list_models() if tests or not each.endswith("-test")]
    cards = [model_card(each) for each in names]
    if as_json:
        click.echo(json.dumps([card.to_dict() for card in cards], indent=2, ensure_ascii=False))
        return
    rows = (
        (
            card.name,
            f"{card.sample_rate} Hz",
            f"{card.default_layer} ({card.layers[card.default_layer]})",
            f"every {card.hop_seconds:.2f} s",
            card.description,
        )
        for card in cards
    )
    print_listing(("name", "hears", "layer (values)", "rows", "description"), rows)
    if missing := sorted(set(list_models(fetched=False)) - set(list_models())):
        note = f"public weights not here: {', '.join(missing)} (coala-latent weights list)"
        console().print(note, markup=False, soft_wrap=True)
