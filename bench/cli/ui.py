"""`bench ui`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.core.store import open_store
from bench.tracking.address import DEFAULT_PORT


def ui(
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65_535, help="Port on 127.0.0.1.")
    ] = DEFAULT_PORT,
) -> None:
    """Open MLflow's web interface on this workspace, at 127.0.0.1 only. Ctrl-C ends it."""
    from bench.tracking import require_tracking, server

    require_tracking("bench ui")
    store = open_store().prepare()
    links = server.experiment_links(store, port)
    if server.is_elsewhere(store):
        _show(links)
        return
    server.check_port(port)
    console.say("starting MLflow's web interface (about 20 s) ...")
    try:
        with server.serving(store, port) as running:
            _show(links)
            running.wait()
    except KeyboardInterrupt:
        console.say("ended")


def _show(links: list[tuple[str, str]]) -> None:
    """Print the links to stdout, since they are the result; the rest goes to stderr."""
    for name, link in links:
        console.say(f"{name}:")
        console.show(link)
    if not links:
        console.say("no results yet: `bench run` makes some")
