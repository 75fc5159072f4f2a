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
from bench.core.commands import protocol_reference, stops_early
from bench.core.errors import BadInput, unknown_name
from bench.core.protocol import DEFAULT_PROTOCOL, load_protocol
from bench.core.recipes import FEW_STEPS
from bench.core.store import open_store
from bench.core.tasks import FURTHER_TASKS

if TYPE_CHECKING:
    from bench.leaderboard.cells import TableCell
    from bench.leaderboard.render import Board
    from bench.registry.promotion import Promotion
    from bench.registry.publishing import TableUpdate
    from bench.registry.results import Scope
    from bench.registry.verification import Verified

_LARGEST = 1_000_000
_NAMED = 6
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
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME", help="Only rows of these variants."),
    ] = None,
    latent_dim: Annotated[
        list[str] | None,
        typer.Option("--latent-dim", "-d", metavar="N", help="Only these code sizes, as 8,32."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="The same rows by what else they were measured by: representation, generation, "
            "interpolation, robustness or cost.",
        ),
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="All columns, for a wide terminal or a pipe.")
    ] = False,
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

    Shows the table of the last run here, or else that of the default protocol; --protocol and
    --dataset choose others, --json has all. Outside of a clone, the same table as committed with
    bench follows. Without --write nothing changes.
    """
    from bench.registry import publishing

    filtered = any(value is not None for value in (protocol, dataset, model, latent_dim, task))
    _refuse_mixture(write, check, refresh, filtered)
    if task is not None and (write or confirm):
        raise BadInput("--task only shows; leave it out with --write and --confirm")
    if confirm and (write or check or refresh):
        raise BadInput("--confirm stands alone: leave --write, --check and --refresh out")
    rows = RowFilter.of(model, latent_dim)
    by_task = _known_task(task)
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
    boards = rows.of_tables(found)
    chosen = boards if as_json or protocol or dataset else _last_or_default(boards)
    if by_task:
        chosen = _of_task(chosen, by_task)
    _show(chosen, as_json, wide, by_task)
    if not as_json and not rows.names and not by_task:
        _show_published(chosen, wide)
    _say_rest(chosen, boards, written=write, task=by_task)
    if rows.names and not chosen.boards and not chosen.committed:
        raise BadInput(f"no rows of {rows.words} in the tables; see: bench leaderboard --json")
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
        raise BadInput("--check always checks everything; leave --protocol and other filters out")


def scope_of(protocol: str | None, dataset: str) -> "Scope":
    """What --protocol and --dataset select."""
    from bench.registry.naming import label_of
    from bench.registry.results import Scope

    return Scope(
        None if protocol is None else load_protocol(console.given(protocol, "--protocol")),
        label_of(open_store(), dataset) if dataset else "",
    )


@dataclasses.dataclass(frozen=True)
class RowFilter:
    """The rows that --model and --latent-dim select; none given: all."""

    models: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, models: Sequence[str] | None, sizes: Sequence[str] | None) -> "RowFilter":
        """From the options; BadInput for an unknown variant and for what is no size."""
        from bench.models.own import is_own_name, is_reference, unknown
        from bench.models.zoo import MODELS, known_model

        given = console.model_names(models or [], "--model")
        named = tuple(known_model(name) if is_reference(name) else name for name in given)
        for name in named:
            if name not in MODELS and not is_own_name(name):
                raise unknown(name, MODELS)
        return cls(named, console.whole_numbers(sizes or [], "--latent-dim", 1, _LARGEST))

    @property
    def names(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.models or self.sizes)

    @property
    def words(self) -> str:
        """What it selects."""
        sizes = f"{', '.join(map(str, self.sizes))} numbers" if self.sizes else ""
        return " of ".join(filter(None, (", ".join(self.models), sizes)))

    def of_tables(self, found: "TableUpdate") -> "TableUpdate":
        """The same tables with these rows only; a table without any is left out."""
        if not self.names:
            return found
        return dataclasses.replace(
            found,
            boards=self._of(found.boards),
            committed=self._of(found.committed),
            own=self._of(found.own),
        )

    def _of(self, boards: "Sequence[Board]") -> "list[Board]":
        kept = []
        for board in boards:
            cells = [cell for cell in board.cells if self._holds(cell)]
            further = {
                task: [cell for cell in of_it if self._holds(cell)]
                for task, of_it in board.further.items()
            }
            if cells:
                kept.append(dataclasses.replace(board, cells=cells, further=further))
        return kept

    def _holds(self, cell: "TableCell") -> bool:
        # A variant without a code, such as the mean image, competes at every size.
        own = (cell.code_size, cell.track.size if cell.track.on_size_axis else cell.code_size)
        sized = not self.sizes or not {*own}.isdisjoint(self.sizes)
        return sized and (not self.models or cell.model in self.models)


def _last_or_default(found: "TableUpdate") -> "TableUpdate":
    """The table of the last run here, else that of the default protocol, else all."""
    keys = {
        (board.dataset, board.protocol) for board in (*found.boards, *found.committed, *found.own)
    }
    default = [key for key in keys if key[1] == DEFAULT_PROTOCOL and key[0] in _default_data()]
    chosen = found.newest if found.newest in keys else next(iter(default), None)
    if chosen is None:
        return found

    def only(boards: "Sequence[Board]") -> "list[Board]":
        return [board for board in boards if (board.dataset, board.protocol) == chosen]

    return dataclasses.replace(
        found, boards=only(found.boards), committed=only(found.committed), own=only(found.own)
    )


def _default_data() -> tuple[str, ...]:
    return (load_protocol(DEFAULT_PROTOCOL).dataset,)


def _known_task(name: str | None) -> str:
    """The further task of --task, or "" for none; BadInput for a name that is none."""
    if name is None:
        return ""
    if name not in FURTHER_TASKS:
        raise unknown_name("task", name, FURTHER_TASKS)
    return name


def _of_task(found: "TableUpdate", task: str) -> "TableUpdate":
    """The same rows in the order of a further task; tables that were not measured by it are left
    out, and BadInput says so if none was."""

    def only(boards: "Sequence[Board]") -> "list[Board]":
        return [
            dataclasses.replace(board, cells=board.further[task])
            for board in boards
            if board.further.get(task)
        ]

    every = (*found.boards, *found.committed, *found.own)
    if every and not any(board.further.get(task) for board in every):
        names = ", ".join(dict.fromkeys(f"{board.protocol} on {board.dataset}" for board in every))
        raise BadInput(
            f"{names}: its rows were not measured by {task}; a protocol switches it on with: "
            f'[evaluation] tasks = ["{task}"]{_of_network(task)}'
        )
    return dataclasses.replace(
        found, boards=only(found.boards), committed=only(found.committed), own=only(found.own)
    )


def _of_network(task: str) -> str:
    from bench.metrics import METRICS, why_absent

    row = METRICS.get(FURTHER_TASKS[task].headline)
    return f"; {task} {why_absent(row)}" if row and "network" in row.needs else ""


def _print_board(board: "Board", wide: bool, task: str, before: str = "", after: str = "") -> None:
    """A table for a terminal: a further task's, if one is given; `wide` with all columns. Its title
    stands between `before` and `after`."""
    from bench.leaderboard.render import narrow_section, short_section
    from bench.leaderboard.task_boards import narrow_task_section, task_section

    if task:
        section = (task_section if wide else narrow_task_section)(task, board.cells)
    else:
        section = short_section(board) if wide else narrow_section(board)
    section = dataclasses.replace(section, title=f"{before}{section.title}{after}")
    if wide:
        console.print_whole(section, "variant")
    else:
        console.print_section(section)


def _show(found: "TableUpdate", as_json: bool, wide: bool, task: str) -> None:
    """The tables, on stdout."""

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
        return
    for board in found.boards:
        _print_board(board, wide, task)
    for board in found.committed:
        _print_board(board, wide, task, "committed with bench: ")
    for board in found.own:
        _print_board(board, wide, task, "Models of your own, ", ", each ranked as if it were added")


def _show_published(found: "TableUpdate", wide: bool) -> None:
    """What others published for the data of these tables, on stdout."""
    from bench.leaderboard import published

    for board in (*found.boards, *found.committed):
        others = (published.section if wide else published.narrow_section)(board.cells)
        if others:
            console.print_section(others)


def _say_rest(shown: "TableUpdate", every: "TableUpdate", *, written: bool, task: str = "") -> None:
    """Messages, on stderr; with a further task other tables are those measured by it."""
    from bench.leaderboard.steps import advice

    facts = (cell.facts[FEW_STEPS] for board in shown.boards for cell in board.cells)
    for line in [*shown.lines, *advice(facts)]:
        console.say(line)
    seen = {(board.dataset, board.protocol) for board in (*shown.boards, *shown.committed)}
    others = [
        f"{protocol_reference(board.protocol)} on {board.dataset}"
        for board in (*every.boards, *every.committed)
        if (board.dataset, board.protocol) not in seen
        and not stops_early(board.protocol)
        and (not task or board.further.get(task))
    ]
    tasks = dict.fromkeys(each for board in shown.boards for each in board.further)
    tasks |= dict.fromkeys(each for board in shown.committed for each in board.further)
    if tasks and not task:
        console.say_wrapped(
            f"the same rows by what else they were measured by (--task): {', '.join(tasks)}"
        )
    if others:
        # The default protocol is named first.
        names = sorted(dict.fromkeys(others), key=lambda name: name.split()[0] != DEFAULT_PROTOCOL)
        listed = ", ".join(names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        console.say_wrapped(f"other tables (--protocol, --dataset): {listed}{more}")
    if written:
        console.say(f"wrote {_listed(shown.changed)}" if shown.changed else "no file changed")


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
        console.say(
            "no ranked rows in the tables of registry/ to choose from; make some with: bench run, "
            "then: bench leaderboard --write"
        )
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

    Without names the networks of all rows of the ledger are built as well: parameters, multiply-
    adds and code sizes follow from them. With --retrain rows of the ledger that take under two
    minutes each are trained again.
    """
    from bench.models.zoo import known_model
    from bench.registry.naming import label_of
    from bench.registry.networks import compare_networks
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
    wrong: list[Verified] = []
    if not names and not models:
        networks = compare_networks(store)
        wrong = [*networks.wrong]
        console.say(str(networks))
    found = []
    for item in recompute(store, chosen, given):
        found.append(item)
        console.say(f"[{len(found)}/{len(chosen)}] {item.name}: {item.problem or 'verified'}")
    found += wrong
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
    console.print_rows(
        ("target", "score", ">written down", ">from weights"),
        [
            (
                (item.name, item.metric, f"{item.recorded:.6g}", f"{item.recomputed:.6g}"),
                f"{item.what}: {item.problem or 'verified'}",
            )
            for item in found
        ],
    )
