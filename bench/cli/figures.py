"""`bench figures`: figures of recorded runs, without training."""

from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.paths import given_path
from bench.core.store import open_store


def figures(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|TRACK|MODEL",
            help="A run key or its beginning, a track such as fashion_mnist_mini/quick.d8, or a "
            "protocol (its name or file) for all its tracks and their rate-distortion figure, or a "
            "variant for the median run of each of its rows.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Output folder (default: mlruns/figures/).")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only these figures (repeatable).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Redraw the figures of runs, a track or a protocol from records, as PNG files."""
    from bench.benchmark.redraw import redraw

    folder = None if out is None else given_path(console.given(out, "--out"), "--out").absolute()
    found = []
    for drawn in redraw(open_store(), name, console.names(only or [], "--only"), folder):
        found.append(drawn)
        if drawn.path is None:
            console.say(f"skipped {drawn.figure} of {drawn.subject}: {drawn.reason}")
        elif not as_json:
            console.show(str(drawn.path))
    if as_json:
        console.print_json([{**vars(d), "path": d.path and str(d.path)} for d in found])
