"""`bench ui`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.core.store import open_store


def ui(
    port: Annotated[str, typer.Option(metavar="N", help="Port on 127.0.0.1.")] = "5000",
) -> None:
    """Open MLflow's web interface on this workspace, at 127.0.0.1 only. Ctrl-C ends it."""
    from bench.tracking import server

    number = console.whole_number(port, "--port", 1, 65_535) or 5000
    store = open_store().prepare()
    links = server.experiment_links(store, number)
    if server.is_elsewhere(store):
        _show(links)
        return
    server.check_port(number)
    console.say("starting MLflow's web interface (about 20 s) ...")
    try:
        with server.serving(store, number) as running:
            _show(links)
            running.wait()
    except KeyboardInterrupt:
        console.say("ended")


def _show(links: list[tuple[str, str]]) -> None:
    """Print the links to stdout, since they are the result; the rest goes to stderr."""
    for name, link in links:
        console.say(f"{name}:")
        typer.echo(link)
    if not links:
        console.say("no results yet: `bench run` makes some")
