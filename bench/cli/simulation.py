"""`bench simulate-ranks`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.cli.leaderboard import DatasetFilter, ProtocolFilter, scope_of
from bench.cli.options import JsonOption
from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.store import open_store


def simulate_ranks(
    protocol: ProtocolFilter = DEFAULT_PROTOCOL,
    dataset: DatasetFilter = None,
    tables: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Tables for each truth and number of seeds.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Store the result in registry/ and show it there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate tables with known truths: how often is a rank wrong, and how much is seen?"""
    from bench.leaderboard.calibration import calibration_section
    from bench.leaderboard.ledger import current
    from bench.registry.calibration import calibrate, write_calibration
    from bench.registry.results import read_results

    store = open_store()
    rows = calibrate(store, scope_of(protocol, dataset or ""), tables, seed, console.say)
    if as_json:
        console.print_json([{**row.values(), "track": str(row.track)} for row in rows])
    else:
        ledger = current(read_results(store.registry).ledger)
        for section in calibration_section(rows, ledger):
            console.print_section(section)
    if write:
        changed = write_calibration(store, rows)
        console.say(f"wrote {', '.join(changed)}" if changed else "no file changed")
