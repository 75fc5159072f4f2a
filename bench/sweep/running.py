"""From plan to outcome: search a study, find its winner, confirm it with fresh seeds."""

import contextlib
import dataclasses
import math
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypedDict, Unpack

from bench.benchmark.memory import require_memory
from bench.benchmark.plan import Plan, Request, default_workers
from bench.benchmark.running import RECORD_BYTES, PlanEvent, execute_plan
from bench.core.commands import model_reference
from bench.core.disk import require_room
from bench.core.errors import BadInput, BenchError, Stopped
from bench.core.protocol import default_protocol, load_protocol
from bench.core.recipes import tuned
from bench.core.spec import RunRecord
from bench.core.store import Store, open_store
from bench.core.text import as_code, without_secrets
from bench.execution import Failed
from bench.execution.places import Workers
from bench.figures import STUDY_FIGURES
from bench.metrics import METRICS
from bench.records.selection import selection_score
from bench.records.studies import study_record
from bench.sweep.analysis import EVALUATOR, analyse
from bench.sweep.book import StudyBook
from bench.sweep.events import SweepEvent
from bench.sweep.heads import Heads, in_words
from bench.sweep.loop import Search
from bench.sweep.opening import attend, changed_search, generation, look_up
from bench.sweep.plan import StudyPlan, SweepRequest, changed_settings, plan_studies
from bench.sweep.results import iter_trials
from bench.sweep.samplers import DEFAULT_PRUNER
from bench.sweep.space import describe_range
from bench.sweep.storage import FAILURES, open_storage, reading_studies, using_studies
from bench.sweep.trials import Ticket, TrialCounts
from bench.sweep.winner import best_of, winner_text, with_larger_budget, write_study, write_winner
from bench.tracking import StudyCard, StudyTracker, WorkOver, open_study_tracker

_TRIAL_BYTES = 64 << 10
"""Room asked for each trial: its result and its rows in both databases."""


@dataclass(frozen=True)
class Recovered:
    """State of a study as it starts or resumes: finished trials, the best value with its trial
    number, and one line for each trial that a killed head left behind."""

    study: str
    finished: int
    best: tuple[float, int] | None
    lines: tuple[str, ...]


@dataclass
class StudyOutcome:
    """The result of a search. `confirmation`: the runs that measure the winner; None if no
    trial finished. `closer`: in words, another head that trains them. `failures`: those that
    failed."""

    plan: StudyPlan
    study: str
    counts: TrialCounts
    epochs: int = 0
    winner: Ticket | None = None
    value: float = math.nan
    recipe: str = ""
    importance: Mapping[str, float] = field(default_factory=dict)
    confirmation: Plan | None = None
    records: Mapping[str, RunRecord] = field(default_factory=dict)
    link: str = ""
    missed: int = 0
    closer: str = ""
    failures: list[Failed] = field(default_factory=list)

    @property
    def is_default(self) -> bool:
        """Whether the default recipe won."""
        return self.winner is not None and not self.changed

    @property
    def changed(self) -> Mapping[str, object]:
        """The winner's settings that differ from the default recipe."""
        if self.winner is None:
            return {}
        return changed_settings(self.winner.settings, self.plan.known["default"])

    @property
    def epochs_share(self) -> float:
        """Trained epochs as a share of what full trainings would have taken."""
        full = self.counts.finished * self.plan.base.train.epochs
        return self.epochs / full if full else math.nan

    def mean(self, *, tuned: bool) -> float:
        """Mean validation score over the seeds of the winner's runs, or of the default's."""
        if self.confirmation is None:
            return math.nan
        wanted = {
            spec.run_key
            for spec in self.confirmation.specs
            if spec.model == self.plan.base.model  # not the closed forms that run along
            and (spec.recipe != "default") == (tuned and not self.is_default)
        }
        scores = [selection_score(r) for k, r in self.records.items() if k in wanted]
        finite = [score for score in scores if math.isfinite(score)]
        return fmean(finite) if finite else math.nan

    @property
    def gain_percent(self) -> float:
        """How much better the winner's mean is than the default's, in % of the default's."""
        default, winner = self.mean(tuned=False), self.mean(tuned=True)
        higher = METRICS[self.plan.base.selection_metric].higher_is_better
        better = winner - default if higher else default - winner
        return 100 * better / abs(default) if default else math.nan


@dataclass(frozen=True)
class Desk:
    """A study that this head works on, from its first trial until its winner is confirmed."""

    plan: StudyPlan
    store: Store
    book: StudyBook


@dataclass(frozen=True)
class Confirming:
    """The search has ended; the runs that measure its winner begin, if any are missing."""

    outcome: StudyOutcome


StudyEvent = SweepEvent | Recovered | Confirming | PlanEvent
"""What `tune_study` tells its caller, in the order in which it happens."""


class Searched(TypedDict, total=False):
    """What `tune` takes besides a variant and a protocol, as `bench sweep` does."""

    latent_dims: tuple[int, ...]
    native: bool
    trials: int
    sampler: str
    pruner: str
    seed: int
    timeout: float
    storage: str
    new_study: bool
    dataset: str
    device: str
    threads: int


def tune(
    model: str,
    protocol: str = "",
    *,
    workers: int = 0,
    on_event: Callable[[StudyEvent], None] = lambda _: None,
    **wanted: Unpack[Searched],
) -> list[StudyOutcome]:
    """Tune a variant on validation images and measure the winner, as `bench sweep --model`.

    One outcome per latent size. `protocol`, `workers` and the processes are as for `bench.run`.
    Raises BadInput for anything that cannot be searched, Stopped on Ctrl-C.
    """
    protocol = protocol or default_protocol(wanted.get("dataset", ""))
    is_file = protocol.endswith(".toml")
    reference = str(Path(protocol).resolve()) if is_file else protocol
    request = SweepRequest(
        load_protocol(protocol), (model,), protocol_reference=reference, **wanted
    )
    store = open_store().prepare()
    plans = plan_studies(request, store)
    look_up(plans, store)  # refuses what cannot go on before anything is trained
    runs = plans[0].defaults
    asked = Request(request.protocol, threads=request.threads)
    count = workers or default_workers(asked, runs.specs[0].device)
    for plan in plans:
        require_memory([plan.largest] * count, plan.defaults.sizes, count)
    with Workers(count, store) as pool:
        return [tune_study(plan, pool, on_event) for plan in plans]


def tune_study(
    plan: StudyPlan, workers: Workers, on_event: Callable[[StudyEvent], None]
) -> StudyOutcome:
    """Search one study to its end and train its winner with the protocol's seeds.

    Raises BadInput if the study was begun for something else or its store cannot be used, Stopped
    on Ctrl-C: the same call resumes.
    """
    with at_study(plan, workers.store) as desk:
        steps = search_study(desk, workers)
        try:
            while True:
                on_event(next(steps))
        except StopIteration as end:
            outcome: StudyOutcome = end.value
        except KeyboardInterrupt:
            again = "the same command"
            again += " without --new-study" if plan.request.new_study else ""
            raise Stopped(f"study {desk.book.name} is stopped; {again} resumes from here") from None
        on_event(Confirming(outcome))
        if outcome.confirmation is not None and not outcome.closer:
            found = execute_plan(outcome.confirmation, workers, on_event)
            outcome.confirmation = dataclasses.replace(outcome.confirmation, specs=found.specs)
            outcome.failures = found.failures
            confirmed(desk, outcome, found.records)
    return outcome


@contextlib.contextmanager
def at_study(plan: StudyPlan, store: Store) -> Iterator[Desk]:
    """Work on a study as one of its heads.

    Raises BadInput if the study was begun for something else or its store cannot be used.
    """
    storage = open_storage(store, plan.request.storage)
    with contextlib.ExitStack() as held:
        with reading_studies(storage):
            name = generation(plan, storage, store)
            held.enter_context(attend(store, name))
            heads = held.enter_context(Heads(storage, name))
            book = heads.patiently(lambda: StudyBook(plan, name, store, storage, heads))
        held.enter_context(using_studies(storage))
        yield Desk(plan, store, book)


def search_study(
    desk: Desk, workers: Workers
) -> Generator[SweepEvent | Recovered, None, StudyOutcome]:
    """Search until the study has its trials; yields events, returns the outcome.

    Raises KeyboardInterrupt after putting back all trials that ran here.
    """
    book, store = desk.book, desk.store
    with reading_studies(book.trials.storage):
        lines = [*changed_search(desk.plan, book.trials.study), *book.recover()]
    yield Recovered(book.name, book.counts.finished, book.standing()[0], tuple(lines))
    tracker = _tracker(book, store)
    _tell_trials(book, store, tracker)
    try:
        if not book.settled:
            _require_room(desk, workers.count)
            yield from Search(book, store, workers.pool(), tracker).events()
    except (BadInput, *FAILURES):  # the study's store is away: nothing to draw
        tracker.close()
        raise
    except (KeyboardInterrupt, BenchError):
        if book.heads.patiently(book.heads.living) == {book.heads.me}:
            _publish(book, _outcome(book, store), store, tracker, "stopped")
        tracker.close()
        raise
    tracker.watch(WorkOver())
    _tell_trials(book, store, tracker)
    outcome = book.heads.patiently(lambda: _outcome(book, store))
    if closer := book.heads.patiently(book.heads.close):
        outcome.closer = in_words(closer)
        outcome.link, outcome.missed = tracker.link, tracker.missed
    else:
        if outcome.confirmation is not None:
            outcome.confirmation = with_larger_budget(outcome.confirmation, store)
            outcome.records = _of_its_variant(outcome, outcome.confirmation.done)
        _publish(book, outcome, store, tracker, "finished")
    tracker.close()
    return outcome


def _require_room(desk: Desk, workers: int) -> None:
    """Raise StorageFailed unless the search and the runs of its winner fit on the disk."""
    trials = desk.plan.request.trials - desk.book.counts.finished
    runs = workers + 2 * desk.plan.winner_runs[0]  # checkpoints, and the runs afterwards
    needed = trials * _TRIAL_BYTES + runs * RECORD_BYTES
    require_room(desk.store.mlruns, needed, f"{trials} trials and the runs of the winner")


def confirmed(desk: Desk, outcome: StudyOutcome, records: Mapping[str, RunRecord]) -> None:
    """After the winner's runs: write its confirmed score to its records and the parent run."""
    outcome.records = _of_its_variant(outcome, records)
    if outcome.is_default:
        outcome.records = {
            key: best_of(record, outcome.counts.finished, desk.store)
            for key, record in outcome.records.items()
        }
    tracker = _tracker(desk.book, desk.store)
    tracker.study_ended({}, {"study.md": _summary(outcome)}, "finished")
    outcome.missed = tracker.missed
    tracker.close()


def _of_its_variant(
    outcome: StudyOutcome, records: Mapping[str, RunRecord]
) -> dict[str, RunRecord]:
    """The records without those of the closed forms, which run along."""
    model = outcome.plan.base.model
    return {key: record for key, record in records.items() if record.spec.model == model}


def _tell_trials(book: StudyBook, store: Store, tracker: StudyTracker) -> None:
    """Tell results on this disk that count, except those that another living head tells itself."""
    finished = {trial.number for trial in book.heads.patiently(book.trials.finished)}
    others = book.heads.patiently(book.told_by_others)
    for record in iter_trials(store, book.name):
        if record.number in finished and record.number not in others:
            tracker.tell(record)


def _tracker(book: StudyBook, store: Store) -> StudyTracker:
    plan, request = book.plan, book.plan.request
    card = StudyCard(
        book.name,
        book.id,
        plan.base,
        {key: describe_range(kind) for key, kind in plan.space.items()},
        {
            "sampler": request.sampler,
            "pruner": request.pruner,
            "trials": str(request.trials),
            "mlflow.source.name": command(plan),
        },
    )
    label = plan.defaults.dataset_label
    return open_study_tracker(store, request.protocol, label, card, book.heads.mutex)


def command(plan: StudyPlan) -> str:
    """The shell command for this study alone; a password in --storage is hidden."""
    request, spec = plan.request, plan.base
    size = [] if spec.latent_dim is None else ["--latent-dim", str(spec.latent_dim)]
    native = ["--native"] if spec.has_code and spec.latent_dim is None else []
    storage = without_secrets(request.storage)
    extras = [
        part
        for name, value, default in (
            ("dataset", request.dataset, ""),
            ("sampler", request.sampler, "tpe"),
            ("pruner", request.pruner, DEFAULT_PRUNER),
            ("seed", request.seed, 0),
            ("threads", request.threads, 1),
            ("storage", storage, ""),
        )
        if value != default
        for part in (f"--{name}", str(value))
    ]
    what = ["--protocol", request.protocol_reference, "--model", model_reference(spec)]
    what += [*size, *native]
    return shlex.join(["bench", "sweep", *what, "--trials", str(request.trials), *extras])


def repeat_winner(outcome: StudyOutcome) -> str:
    """The command that retrains a study's winner."""
    spec = outcome.plan.base
    own = "" if model_reference(spec) == spec.model else f" --model {model_reference(spec)}"
    return f"bench sweep --winner {outcome.study}{own}"


def _outcome(book: StudyBook, store: Store) -> StudyOutcome:
    plan, winner = book.plan, book.trials.winner()
    outcome = StudyOutcome(plan, book.name, book.counts, book.trials.epochs(), winner)
    if winner is not None:
        outcome.value = book.trials.value_of(winner.number)
        outcome.recipe = tuned(book.counts.finished, book.generation)
        outcome.confirmation = plan.with_recipe(winner.settings, outcome.recipe, store)
        outcome.records = _of_its_variant(outcome, outcome.confirmation.done)
    return outcome


def _publish(
    book: StudyBook, outcome: StudyOutcome, store: Store, tracker: StudyTracker, status: str
) -> None:
    """Log figures of the trials so far, the winner, and how to repeat it, to the parent run."""
    trials = book.heads.patiently(lambda: analyse(book.trials))
    outcome.importance = dict(trials.importance)
    texts = {"study.md": _summary(outcome)}
    if outcome.winner is not None:
        text = winner_text(book.plan, outcome.winner, outcome.recipe)
        write_winner(store, book.name, text)
        plan, trials_counted = book.plan, book.heads.patiently(book.trials.counted)
        found = (book.name, outcome.recipe, plan.base, plan.space, plan.known, trials_counted)
        write_study(store, study_record(*found))
        texts["winner.toml"] = text
    figures = {
        row.id: partial(row.draw, trials) for row in STUDY_FIGURES.values() if row.can_draw(trials)
    }
    tracker.study_ended(figures, texts, status)
    outcome.link, outcome.missed = tracker.link, tracker.missed


def _summary(outcome: StudyOutcome) -> str:
    """Markdown for the page of the parent run; its first line gives the outcome."""
    counts = outcome.counts
    mattered = ", ".join(f"{key} {share:.2f}" for key, share in outcome.importance.items())
    return "\n\n".join(
        [
            f"**{outcome.study}**: {_worth(outcome)}.",
            _found(outcome),
            f"{counts.complete} complete, {counts.pruned} pruned, {counts.diverged} diverged; "
            f"{counts.put_back} were put back and do not count. {100 * outcome.epochs_share:.0f} % "
            "of the epochs of full trainings.",
            f"Importance of settings ({EVALUATOR}): {mattered or 'too few trials'}.",
            f"Search again: {as_code(command(outcome.plan))}\n\nTrain the winner again: "
            f"{as_code(repeat_winner(outcome))}, or `bench sweep --winner winner.toml` with "
            "the file that is here",
        ]
    )


def _worth(outcome: StudyOutcome) -> str:
    """What fresh seeds show about the winner; the best score of many trials is biased."""
    if outcome.winner is None:
        return "no trial finished"
    default, winner = outcome.mean(tuned=False), outcome.mean(tuned=True)
    metric = outcome.plan.base.selection_metric
    if outcome.is_default:
        return "the default recipe won: its runs with the seeds of the table are the winner's"
    if not math.isfinite(winner) or not math.isfinite(default):
        return f'the winner is trained again with fresh seeds, as "{outcome.recipe}"'
    return (
        "over the seeds of the table, none of them the search's, the winner reaches validation "
        f'{metric} {winner:.5g}, the row "default" {default:.5g} '
        f'({outcome.gain_percent:+.1f} %); in the leaderboard as "{outcome.recipe}"'
    )


def _found(outcome: StudyOutcome) -> str:
    if outcome.winner is None:
        return "No winner."
    changed = ", ".join(f"{key} = {value}" for key, value in outcome.changed.items())
    return (
        f"Found by {outcome.counts.finished} trials: number {outcome.winner.number} "
        f"({changed or 'the default recipe'}). In the search it reached "
        f"{outcome.value:.5g}, which is biased: it was chosen as the best."
    )
