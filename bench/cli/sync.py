"""`bench sync` and `bench doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import console
from bench.cli.console import JsonOption
from bench.errors import CheckFailed, unknown_name
from bench.protocol import shipped_protocols
from bench.store import Store, open_store


def sync(
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="Only runs of this protocol.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Tell MLflow every result on disk that it has not heard of; nothing is told twice."""
    from bench.doctor import damaged_records, tell_mlflow
    from bench.sweep.syncing import sync_trials

    store = open_store().prepare()
    _check_protocol(store, protocol)
    both = (tell_mlflow(store, protocol), sync_trials(store, protocol))
    told, known, missed = (
        sum(getattr(report, name) for report in both) for name in ("told", "known", "missed")
    )
    if as_json:
        console.print_json({"told": told, "known": known, "missed": missed})
    else:
        typer.echo(f"told MLflow of {told} runs; it knew {known} already")
    for line in damaged_records(store):
        raise CheckFailed(f"{line}; what is sound was told")
    if missed:
        raise CheckFailed(
            f"MLflow did not take {missed} runs; they are safe on disk, repeat `bench sync` "
            "when it answers"
        )


def _check_protocol(store: Store, name: str) -> None:
    """A protocol is shipped, or has records here."""
    from bench.doctor import recorded_protocols

    known = recorded_protocols(store) | {Path(item).name for item in shipped_protocols()}
    if name and name not in known:
        raise unknown_name("protocol", name, known)


def doctor(
    other_hosts: Annotated[
        bool,
        typer.Option("--other-hosts", help="Also close runs that other machines left running."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Mend what kills and moved folders left behind, and show what this machine offers."""
    from bench.doctor import examine

    findings = examine(open_store().prepare(), other_hosts=other_hosts)
    if as_json:
        console.print_json(findings)
        return
    for section, values in findings.items():
        console.print_table(section, ("what", "found"), [(k, str(v)) for k, v in values.items()])
