"""`bench sync` and `bench doctor`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.errors import CheckFailed, unknown_name
from bench.core.protocol import name_in_records, shipped_protocols
from bench.core.store import Store, open_store

if TYPE_CHECKING:
    from bench.core.repairs import Care, Finding


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
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is found.")] = False,
    other_hosts: Annotated[
        bool,
        typer.Option("--other-hosts", help="Also close runs that other machines left running."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what kills, damage and moved folders left behind, and what this machine offers.

    With --fix it is repaired: nothing that a running command holds is touched, and damaged files
    are moved to mlruns/quarantine/. Exit code 3 if something remains to be repaired.
    """
    from bench.benchmark.doctor import examine, survey
    from bench.core.repairs import Care
    from bench.sweep.mending import mend_studies, mend_trials, send_trials

    store = open_store()
    care = Care(store.prepare() if fix else store, fix, other_hosts)
    found = examine(care, (mend_trials, mend_studies), (send_trials,))
    sections = survey(store)
    if as_json:
        console.print_json({"repairs": _by_kind(found), **sections})
    else:
        for kind, lines in _by_kind(found).items():
            console.show("\n  ".join([f"{kind}: {len(lines)}", *lines]))
        for section, values in sections.items():
            rows = [(key, str(value)) for key, value in values.items()]
            console.print_table(section, ("what", "found"), rows)
    _conclude(found, care)


def _by_kind(found: "Iterable[Finding]") -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for finding in found:
        kinds.setdefault(finding.kind, []).append(str(finding))
    return kinds


def _conclude(found: "Iterable[Finding]", care: "Care") -> None:
    """Say how it stands; raises CheckFailed if something remains to be repaired."""
    count = Counter(finding.state for finding in found)
    if count["repaired"]:
        aside = f"; what was damaged is in {care.quarantine}" if care.quarantine.exists() else ""
        console.say(f"{count['repaired']} repaired{aside}")
    if count["unsolved"]:
        raise CheckFailed(f"{count['unsolved']} cannot be repaired now (see the list)")
    if count["found"]:
        raise CheckFailed(f"{count['found']} to repair, nothing was changed; `bench doctor --fix`")
    console.say("all is well")
