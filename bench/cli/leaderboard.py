"""`bench leaderboard`, `bench promote`, `bench verify`."""

import dataclasses
import math
import secrets
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import console
from bench.cli.options import (
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ScaleOption,
    chosen_dataset,
)
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.recipes import FEW_STEPS
from bench.core.store import open_store

if TYPE_CHECKING:
    from bench.registry.promotion import Promotion
    from bench.registry.publishing import TableUpdate
    from bench.registry.results import Scope
    from bench.registry.verification import Verified

ProtocolFilter = Annotated[
    str | None,
    typer.Option("--protocol", "-p", help="Only this protocol (a name or a .toml file)."),
]
DatasetFilter = Annotated[
    str | None, typer.Option(help="Only this data set: an id, csv:PATH, npz:PATH or folder:PATH.")
]


def leaderboard(
    protocol: ProtocolFilter = None,
    dataset: DatasetFilter = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add local records to the ledger; write the pages.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the committed pages against the ledger.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="With --write: accept values that drifted.")
    ] = False,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Add what this machine reproduced to registry/confirmations.csv: date, commit, "
            "family of processors, no names. A courtesy, not a proof.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rank what was run: local records and the committed ledger together.

    Outside of a clone, the tables committed with bench follow. Without --write nothing changes.
    """
    from bench.registry import publishing

    _refuse_mixture(write, check, refresh, protocol is not None or dataset is not None)
    if confirm and (write or check or refresh):
        raise BadInput("--confirm stands alone: leave --write, --check and --refresh out")
    store = open_store()
    if check:
        for line in publishing.check(store):
            console.say(line)
        return
    given = chosen_dataset(dataset, image_size, scale, label_column)
    scope = scope_of(protocol, given)
    if confirm:
        _confirm(scope)
        return
    found = publishing.write(store, scope, refresh) if write else publishing.look(store, scope)
    _show(found, as_json, written=write)
    if not found.boards and not found.own:
        from bench.registry.naming import changed_since

        if changed := changed_since(store, given):
            console.say(changed)
        again = [
            f"--{key} {shlex.quote(value)}"
            for key, value in (("protocol", protocol), ("dataset", given))
            if value
        ]
        console.say(
            f"no results here yet{' under these settings' if again else ''}; make some with: "
            + " ".join(["bench run", *again])
        )


def _confirm(scope: "Scope") -> None:
    from bench.registry import publishing

    rows, changed = publishing.confirm(open_store(), scope)
    for row in rows:
        console.say(
            f"confirmed {row.reproduced} of {row.rows} rows of {row.protocol} on {row.dataset} "
            f"({row.processor}, commit {row.commit})"
        )
    console.say(f"wrote {_listed(changed)}; this is a courtesy, not a proof: see bench verify")


def _refuse_mixture(write: bool, check: bool, refresh: bool, filtered: bool) -> None:
    if write and check:
        raise BadInput("--write and --check exclude each other; give one of them")
    if refresh and not write:
        raise BadInput("--refresh changes the ledger; give it together with --write")
    if check and filtered:
        raise BadInput("--check always checks everything; leave --protocol and --dataset out")


def scope_of(protocol: str | None, dataset: str) -> "Scope":
    """What --protocol and --dataset select."""
    from bench.registry.naming import label_of
    from bench.registry.results import Scope

    return Scope(
        None if protocol is None else load_protocol(console.given(protocol, "--protocol")),
        label_of(open_store(), dataset) if dataset else "",
    )


def _show(found: "TableUpdate", as_json: bool, written: bool) -> None:
    """Tables on stdout, messages on stderr."""
    from bench.leaderboard.render import short_section
    from bench.leaderboard.steps import advice

    if as_json:
        console.print_json(
            [
                json_row(cell.columns() | {"committed_with_bench": committed, "own": own})
                for committed, own, boards in (
                    *((False, False, found.boards), (True, False, found.committed)),
                    (False, True, found.own),
                )
                for board in boards
                for cell in board.cells
            ]
        )
    else:
        for board in found.boards:
            console.print_section(short_section(board))
        for board in found.committed:
            section = short_section(board)
            title = f"committed with bench: {section.title}"
            console.print_section(dataclasses.replace(section, title=title))
        for board in found.own:
            section = short_section(board)
            title = f"Models of your own, {section.title}, each ranked as if it were added"
            console.print_section(dataclasses.replace(section, title=title))
    facts = (cell.facts[FEW_STEPS] for board in found.boards for cell in board.cells)
    for line in [*found.lines, *advice(facts)]:
        console.say(line)
    if written:
        console.say(f"wrote {_listed(found.changed)}" if found.changed else "no file changed")


def _listed(changed: Sequence[str]) -> str:
    """Names of files, those of scores as a number."""
    others = [name for name in changed if not name.startswith("registry/scores/")]
    scores = len(changed) - len(others)
    counted = [f"{scores} file{'s' * (scores > 1)} in registry/scores/"] if scores else []
    return ", ".join([*others, *counted])


def json_row(value: Any) -> Any:
    """A value with None for NaN, which JSON lacks, also within mappings and lists."""
    if isinstance(value, Mapping):
        return {key: json_row(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_row(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def promote(
    protocol: ProtocolFilter = None,
    dataset: DatasetFilter = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the best row of each track into the registry, with weights, card and figures.

    A champion is replaced only by a row that is significantly better on validation.
    """
    from bench.registry.promotion import promote as decide_and_write

    given = chosen_dataset(dataset, image_size, scale, label_column)
    done = decide_and_write(open_store(), scope_of(protocol, given), dry_run)
    if as_json:
        console.print_json(_promotion_as_json(done))
    else:
        _print_promotion(done)
    for line in done.lines:
        console.say(line)
    changed = ", ".join(done.changed) if done.changed else "nothing in registry/"
    console.say("dry run: nothing was changed" if dry_run else f"changed: {changed}")


_ACTIONS = {
    "first": "becomes champion",
    "replace": "becomes champion",
    "refresh": "stays, written anew",
    "keep": "stays",
    "none": "no change",
}


def _print_promotion(done: "Promotion") -> None:
    if not done.decisions:
        console.say("no ranked rows here to choose from; make some with: bench run")
        return
    console.print_table(
        "",
        ("track", "champion", "what happens", "why", "challenger"),
        [
            (
                decision.track,
                decision.champion.row if decision.champion else decision.before or "none",
                _ACTIONS[decision.action],
                decision.why,
                decision.challenger.row if decision.challenger else "none",
            )
            for decision in done.decisions
        ],
    )


def _promotion_as_json(done: "Promotion") -> list[dict[str, Any]]:
    return [
        {
            "track": decision.track,
            "action": decision.action,
            "why": decision.why,
            "champion": decision.champion.row if decision.champion else None,
            "challenger": decision.challenger.row if decision.challenger else None,
            "before": decision.before or None,
        }
        for decision in done.decisions
    ]


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tracks or run keys (default: all champions).", metavar="TRACK_OR_RUN"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All champions and all local records.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Records of this variant, or of a class of your own: mine.py:Net (repeatable).",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Where own images are now: csv:PATH, npz:PATH or folder:PATH."),
    ] = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    retrain: Annotated[
        int,
        typer.Option(
            min=0, help="Draw so many rows of the ledger, train them again and compare instead."
        ),
    ] = 0,
    draw: Annotated[
        int | None, typer.Option(min=0, help="With --retrain: the seed of the draw.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute scores from weights and fail if they differ from the recorded ones.

    With --retrain rows of the ledger that take under two minutes each are trained again.
    """
    from bench.models.zoo import known_model
    from bench.registry.naming import label_of
    from bench.registry.verification import raise_problems, targets
    from bench.registry.verification import verify as recompute

    if names and everything:
        raise BadInput(f"--all verifies everything; leave it out, or {', '.join(names)}")
    store = open_store()
    models = [known_model(name) for name in console.model_names(model or [], "--model")]
    given = chosen_dataset(dataset, image_size, scale, label_column)
    if draw is not None and not retrain:
        raise BadInput("--draw is the seed of --retrain; give both, or leave it out")
    if retrain:
        if names or everything or given:
            raise BadInput("--retrain draws rows itself; leave names, --all and --dataset out")
        _retrain(retrain, draw, as_json)
        return
    if given:
        label_of(store, given)  # refuses what cannot be read
    chosen = targets(store, names or [], everything, models)
    found = []
    for item in recompute(store, chosen, given):
        found.append(item)
        console.say(f"[{len(found)}/{len(chosen)}] {item.name}: {item.problem or 'verified'}")
    _show_verified(found, as_json)
    raise_problems(found)
    skipped = sum(item.skipped for item in found)
    if skipped:
        console.say(f"{len(found) - skipped} verified, {skipped} skipped: those are not verified")


def _retrain(count: int, draw: int | None, as_json: bool) -> None:
    from bench.benchmark.retraining import retrain
    from bench.registry.verification import raise_problems

    seed = secrets.randbelow(2**31) if draw is None else draw
    console.say(f"rows drawn with --draw {seed}")
    found = []
    for item in retrain(open_store(), count, seed, console.say):
        found.append(item)
        console.say(f"{item.what}: {item.problem or 'agrees with the ledger'}")
    _show_verified(found, as_json)
    raise_problems(found)


def _show_verified(found: list["Verified"], as_json: bool) -> None:
    if as_json:
        console.print_json([json_row(vars(item)) for item in found])
        return
    console.print_table(
        "",
        ("what", "", "score", ">written down", ">from weights", ""),
        [
            (
                item.name,
                item.what,
                item.metric,
                f"{item.recorded:.6g}",
                f"{item.recomputed:.6g}",
                item.problem or "verified",
            )
            for item in found
        ],
    )
