"""`bench sync` and `bench doctor`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.errors import CheckFailed
from bench.store import open_store


def sync(
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="Only runs of this protocol.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Tell MLflow every result on disk that it has not heard of; nothing is told twice."""
    from bench.doctor import tell_mlflow

    report = tell_mlflow(open_store().prepare(), protocol)
    if as_json:
        console.print_json({"told": report.told, "known": report.known, "missed": report.missed})
    else:
        typer.echo(f"told MLflow of {report.told} runs; it knew {report.known} already")
    if report.missed:
        raise CheckFailed(
            f"MLflow did not take {report.missed} runs; they are safe on disk, repeat `bench sync` "
            "when it answers"
        )


def doctor(
    other_hosts: Annotated[
        bool,
        typer.Option("--other-hosts", help="Also close runs that other machines left running."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Mend what kills and moved folders left behind, and show what this machine offers."""
    from bench.doctor import examine

    findings = examine(open_store().prepare(), other_hosts=other_hosts)
    if as_json:
        console.print_json(findings)
        return
    for section, values in findings.items():
        console.print_table(section, ("what", "found"), [(k, str(v)) for k, v in values.items()])
