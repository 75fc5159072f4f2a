"""`bench speed`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption


def speed(
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, noisier measurements.")] = False,
    workers: Annotated[
        bool, typer.Option("--workers", help="Measure the gain of a second worker in a search.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure speed as ratios within one run: training loop, SSIM and data loading."""
    if workers:
        from bench.speed.workers import measure_workers

        rows = measure_workers(trials=6 if quick else 12)
    else:
        from bench.speed.ratios import measure_all

        rows = measure_all(seconds=0.5 if quick else 3.0)
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        "",
        ("what", ">ours", "against", ">theirs", ">ratio", ">wanted"),
        [(r["what"], r["ours"], r["against"], r["theirs"], r["ratio"], r["wanted"]) for r in rows],
    )
