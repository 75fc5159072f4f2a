"""`bench report`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.core.paths import given_path
from bench.core.store import open_store, write_atomically, writing_to


def report(
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the page there, with a link to MLflow on this machine (default: "
            "registry/index.html, without).",
        ),
    ] = None,
) -> None:
    """Write the comparison of all committed results as one web page that opens from disk.

    `bench leaderboard --write` and `bench promote` write it as well.
    """
    from bench.registry import pages

    store = open_store()
    if out is None:
        changed = pages.write_index(store)
        console.say("wrote" if changed else "already up to date:")
        console.show(str(store.registry / "index.html"))
        return
    from bench.tracking.address import experiments_page, find_address, interface_address

    path = given_path(console.given(out, "--out"), "--out").absolute()
    address = find_address(store)
    base = address.shown if address.is_server else interface_address(store)
    with writing_to("the page", path.parent, "--out"):
        write_atomically(path, pages.index_text(store, experiments_page(base)).encode())
    console.show(str(path))
