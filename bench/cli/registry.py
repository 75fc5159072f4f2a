"""`bench registry list|show|rollback`: the committed champions."""

from typing import Annotated, Any

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.store import open_store

app = typer.Typer(
    help="The champions of every track, as stored in registry/.", no_args_is_help=True
)
TrackArgument = Annotated[
    str, typer.Argument(help="A track, such as fashion_mnist_mini.quick.d8 (see: registry list).")
]


@app.command("list")
def list_champions(as_json: JsonOption = False) -> None:
    """List every track with its champion and challenger; those committed with bench come last."""
    from bench.leaderboard.wording import DASH
    from bench.registry.champions import describe_champions

    rows = describe_champions(open_store())
    if as_json:
        console.print_json(rows)
    elif not rows:
        console.say("no champions yet; make them with: bench promote")
    else:
        console.print_rows(
            ("track", "champion", "test"),
            [((row["track"], row["champion"], row["test"]), _remark(row, DASH)) for row in rows],
        )


def _remark(row: dict[str, Any], dash: str) -> str:
    """What a line of the list has no room for. The folder has the name of the track."""
    margin = f"{row['over_pca']} over PCA" if row["over_pca"] != dash else ""
    whose = "committed with bench" if row["committed_with_bench"] else ""
    challenger = f"challenger {row['challenger'] or 'none'}"
    return "; ".join(
        filter(None, (margin, challenger, f"before it {row['previous'] or 'none'}", whose))
    )


@app.command()
def show(track: TrackArgument, as_json: JsonOption = False) -> None:
    """Show the card of a track's champion."""
    from bench.core.spec import to_json_types
    from bench.registry.card_text import card_text
    from bench.registry.champions import find_champion

    place, card = find_champion(open_store(), track)
    if as_json:
        console.print_json(to_json_types(card))
    else:
        console.print_markdown(card_text(card), place.registry / card.folder)


@app.command()
def rollback(track: TrackArgument) -> None:
    """Restore the previous champion; a second call undoes it."""
    from bench.registry.promotion import rollback as bring_back

    now, before, lines = bring_back(open_store(), track)
    console.say(
        f"{track}: {now.summary.row} is champion again in place of {before.summary.row}, which "
        "is held back; the same command undoes this"
    )
    for line in lines:
        console.say(line)
