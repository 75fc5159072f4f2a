"""`bench features list|pin`: the networks in whose features samples and paths are compared."""

from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.store import open_store

app = typer.Typer(
    help="The classifiers in whose features samples and paths are compared.", no_args_is_help=True
)


@app.command("list")
def list_networks(as_json: JsonOption = False) -> None:
    """List the feature networks, and the data sets that each serves."""
    from bench.registry.features import describe_networks

    rows = describe_networks(open_store())
    if as_json:
        console.print_json(rows)
    elif not rows:
        console.say("no feature networks yet; pin a trained classifier with: bench features pin")
    else:
        keys = ("network", "serves", "images", "model", "protocol", "test_accuracy", "features")
        columns = ("network", "serves", "images", "model", "protocol", "test accuracy", "features")
        console.print_table("", columns, [[str(row[key]) for key in keys] for row in rows])


@app.command()
def pin(
    name: Annotated[
        str, typer.Argument(help="A track with a champion, or a run key, of a classifier.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Another data set that it serves (repeatable)."),
    ] = None,
) -> None:
    """Pin a trained classifier as the feature network of its data set; it is never replaced."""
    from bench.registry.features import pin as pin_network

    card = pin_network(open_store(), name, also or ())
    console.say(
        f"registry/features/{card.sha256}: {card.spec.model} of {card.spec.dataset_label}, "
        f"{card.feature_size} features, serves {', '.join(card.serves)}"
    )
    console.say("runs are scored in its features from now on: bench run scores old weights again")
