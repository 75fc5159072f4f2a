"""`bench ui`."""

import os
import sys
import webbrowser
from typing import Annotated

import typer

from bench.cli import console
from bench.core.store import open_store
from bench.tracking.address import DEFAULT_PORT


def ui(
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65_535, help="Port on 127.0.0.1.")
    ] = DEFAULT_PORT,
    browser: Annotated[
        bool, typer.Option(help="Open the newest experiment's view in a browser.")
    ] = True,
) -> None:
    """Open MLflow's web interface on this workspace, at 127.0.0.1 only. Ctrl-C ends it."""
    from bench.tracking import require_tracking, server

    require_tracking("bench ui")
    store = open_store().prepare()
    links = server.experiment_links(store, port)
    if server.is_elsewhere(store):
        _show(links, browser)
        return
    server.check_port(port)
    console.say("starting MLflow's web interface (about 20 s) ...")
    try:
        with server.serving(store, port) as running:
            _show(links, browser)
            running.wait()
    except KeyboardInterrupt:
        console.say("ended")


def _show(links: list[tuple[str, str]], browser: bool) -> None:
    """Print the links to stdout, since they are the result; the rest goes to stderr."""
    for name, link in links:
        console.say(f"{name}:")
        console.show(link)
    if not links:
        console.say("no results yet: `bench run` makes some")
    elif browser and _has_screen():
        webbrowser.open(links[0][1])


def _has_screen() -> bool:
    """Whether a person sits before a desktop: elsewhere a browser would take the terminal."""
    desktop = (
        sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    )
    return bool(desktop) and _is_terminal()


def _is_terminal() -> bool:
    return sys.stdout.isatty()
