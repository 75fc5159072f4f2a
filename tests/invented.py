"""Records of runs that nobody trained: their scores are set by hand, so that a test decides who is
better on the validation images and who on the test images; and the tables that they give."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.benchmark.plan import Request, plan
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord, RunSpec, Status
from bench.core.store import Store
from bench.core.track import Track
from bench.leaderboard.significance import PairRow
from bench.models.zoo import MODELS
from bench.records.files import write_record
from bench.registry import admission, publishing
from bench.registry.promotion import promote
from bench.registry.results import Scope

EVERYTHING = Scope()
IMAGES = 40
NOWHERE = "nowhere"
"""The source of their images."""
FACTS = {
    "code_size": 8.0,
    "parameters": 1000.0,
    "multiply_adds": 1e6,
    "train_images": 100.0,
    "train_seconds": 2.0,
    "active_units": 8.0,
    "output_std": 0.2,
}


def believe(patch: Callable[[object, str, object], None] = setattr) -> None:
    """Hold no invented record against its weights, which give nothing; all others are."""

    def but_of_invented(check: Callable[..., str]) -> Callable[..., str]:
        def checked(store: Store, record: RunRecord, *rest: object) -> str:
            return "" if record.data_source == NOWHERE else check(store, record, *rest)

        return checked

    for name in ("_other_weights", "_verified"):
        patch(admission, name, but_of_invented(getattr(admission, name)))


Steps = Sequence[tuple[int, int]]
STEPS = ((-1, -1), (1, 0), (0, 1))
"""On validation and on test: seed 2 is the median there, seed 1 here, seed 0 the first."""


def specs_of(
    store: Store,
    protocol: Protocol,
    model: str,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 8,
    dataset: str = "",
) -> list[RunSpec]:
    """What would be trained for a row, one spec per seed."""
    asked = Request(protocol, (model,), (size,), seeds=tuple(seeds), device="cpu", dataset=dataset)
    return list(plan(asked, store).specs)


def record_of(
    spec: RunSpec,
    scores: Mapping[str, Mapping[str, float]],
    *,
    status: Status = "finished",
    facts: Mapping[str, float] = {},
    environment: Mapping[str, str] = {},
    started: int = 0,
) -> RunRecord:
    """A record with these scores; its digests are filled in when it is written."""
    return RunRecord(
        run_key=spec.run_key,
        evaluation_digest=spec.evaluation_digest,
        spec=spec,
        status=status,
        started_unix_ms=started,
        finished_unix_ms=started,
        history=(),
        scores=scores,
        facts={**FACTS, **facts},
        image_shape=(1, 28, 28),
        class_names=(),
        data_source=NOWHERE,
        split_digest="0" * 16,
        weights_sha256="",
        arrays_sha256="",
        environment={"device": "cpu", **environment},
        closed_form=spec.model in MODELS and MODELS[spec.model].closed_form,
    )


def invent(  # noqa: PLR0913
    store: Store,
    spec: RunSpec,
    val: float,
    test: float,
    *,
    status: Status = "finished",
    facts: Mapping[str, float] = {},
    environment: Mapping[str, str] = {},
    more: Mapping[str, np.ndarray] = {},
) -> RunRecord:
    """Write a record whose mean scores are `val` and `test`, with images harder and easier, and
    with more arrays."""
    if status != "finished":
        return write_record(store.records, record_of(spec, {}, status=status, facts=facts), {}, {})
    metric = spec.selection_metric
    spread = np.linspace(-0.1, 0.1, IMAGES)
    scores = {
        part: {metric: mean, "mse": 10 ** (-mean / 10) if metric == "psnr" else mean}
        for part, mean in (("val", val), ("test", test))
    }
    arrays = {
        f"{part}/{name}": (mean * (1 + spread)).astype(np.float32)
        for part, means in (("validation", scores["val"]), ("test", scores["test"]))
        for name, mean in means.items()
    }
    weights = {"w": np.full(3, spec.seed, dtype=np.float32)}
    record = record_of(spec, scores, facts=facts, environment=environment)
    return write_record(store.records, record, weights, {**arrays, **more})


def invent_row(
    store: Store,
    protocol: Protocol,
    model: str,
    val: float,
    test: float,
    *,
    steps: Steps = STEPS,
    facts: Mapping[str, float] = {},
) -> list[RunRecord]:
    """A row of a table, a record a seed, each so many thousandths of the score off its mean."""
    specs = specs_of(store, protocol, model, range(len(steps)))
    return [
        invent(store, spec, val * (1 + a / 1000), test * (1 + b / 1000), facts=facts)
        for spec, (a, b) in zip(specs, steps, strict=True)
    ]


def pair_row(a: str, b: str, difference: float, p: float, p_holm: float = 1.0) -> PairRow:
    """A comparison of configurations `a` and `b`."""
    return PairRow(
        dataset="fashion_mnist_mini",
        protocol="quick",
        track=Track("real", 8),
        row_a=a,
        row_b=b,
        configuration_a=a,
        configuration_b=b,
        metric="mse",
        difference=difference,
        low=difference,
        high=difference,
        p=p,
        p_holm=p_holm,
        rows_digest="0" * 16,
    )


def write(store, scope=EVERYTHING):
    return publishing.write(store, scope, refresh=False)


def table(store, scope=EVERYTHING):
    """The columns of the table's cells in its order, by name of the row."""
    boards = publishing.look(store, scope).boards
    return {cell.row: cell.columns() for board in boards for cell in board.cells}


def ranks(store, scope=EVERYTHING):
    """Rows in their order, with their ranges of ranks; None: no rank."""
    boards = publishing.look(store, scope).boards
    return [(cell.row, cell.ranks) for board in boards for cell in board.cells]


def decision(store, scope=EVERYTHING):
    """What a promotion does: (action, champion, challenger)."""
    (found,) = promote(store, scope).decisions
    names = [cell and cell.row for cell in (found.champion, found.challenger)]
    return (found.action, *names)


def disagreeing(store, protocol):
    """fc_ae is best on validation and worst on test; deep_ae the other way about."""
    invent_row(store, protocol, "deep_ae", val=0.038, test=0.030)
    fc_ae = invent_row(store, protocol, "fc_ae", val=0.030, test=0.038)
    invent_row(store, protocol, "vae", val=0.034, test=0.034)
    return fc_ae
