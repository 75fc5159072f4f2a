"""`bench sync` and `bench doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.errors import CheckFailed, unknown_name
from bench.core.protocol import name_in_records, shipped_protocols
from bench.core.store import Store, open_store


def sync(
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="Only runs of this protocol.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send MLflow every result on disk that it lacks; nothing is sent twice."""
    from bench.benchmark.doctor import damaged_records, tell_mlflow
    from bench.sweep.syncing import sync_trials
    from bench.tracking import require_tracking

    require_tracking("bench sync")
    store = open_store().prepare()
    name = "" if protocol is None else _protocol_name(store, console.given(protocol, "--protocol"))
    _check_server(store)
    both = (tell_mlflow(store, name), sync_trials(store, name))
    told, known, missed = (
        sum(getattr(report, part) for report in both) for part in ("told", "known", "missed")
    )
    if as_json:
        console.print_json({"told": told, "known": known, "missed": missed})
    else:
        typer.echo(f"sent {told} runs to MLflow; it had {known} already")
    for line in damaged_records(store):
        raise CheckFailed(f"{line}; all sound records were sent")
    if missed:
        raise CheckFailed(
            f"MLflow did not take {missed} runs; they are safe on disk, repeat `bench sync` "
            "when it answers"
        )


def _protocol_name(store: Store, given: str) -> str:
    """The name used in records for a protocol that is shipped, recorded here, or a file."""
    from bench.benchmark.doctor import recorded_protocols

    name = name_in_records(given)
    if given.endswith(".toml"):
        return name
    known = recorded_protocols(store) | {Path(item).name for item in shipped_protocols()}
    if name not in known:
        raise unknown_name("protocol", name, known)
    return name


def _check_server(store: Store) -> None:
    """Raise a one-line error if the MLflow server does not answer."""
    from bench.tracking.address import find_address

    server = find_address(store)
    if reason := server.why_not():
        raise CheckFailed(
            f"MLflow at {server.shown} does not answer ({reason}); nothing was sent, every result "
            "is safe on disk: repeat `bench sync` when it does"
        )


def doctor(
    other_hosts: Annotated[
        bool,
        typer.Option("--other-hosts", help="Also close runs that other machines left running."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair what kills and moved folders left behind, and show what this machine offers."""
    from bench.benchmark.doctor import examine

    findings = examine(open_store().prepare(), other_hosts=other_hosts)
    if as_json:
        console.print_json(findings)
        return
    for section, values in findings.items():
        console.print_table(section, ("what", "found"), [(k, str(v)) for k, v in values.items()])
