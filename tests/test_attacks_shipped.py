"""Attacks on the tables that are committed with bench, whose protocols everybody has: what a row
says of itself is held against what the shipped protocol of that name plans."""

import dataclasses
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bench.core.errors import CheckFailed
from bench.core.spec import COPIED, RunSpec
from bench.core.store import Store, shipped
from bench.leaderboard.ledger import LedgerRow, configuration_of
from bench.records.files import iter_records, record_folder
from bench.registry import checking, publishing
from bench.registry.agreement import other_fact
from bench.registry.checking import _Plans, check_rows
from bench.registry.results import Results, Scope, read_results
from tests.attacks import studies

pytest_plugins = ("registry_fixtures",)

Rows = list[LedgerRow]


@pytest.fixture(scope="module")
def committed() -> Results:
    """The committed tables."""
    return read_results(shipped().registry)


def of(model: str, size: int | None = 8, protocol: str = "quick") -> Callable[[LedgerRow], bool]:
    """Whether a row is one of this cell."""
    return lambda row: (row.protocol, row.model, row.latent_dim) == (protocol, model, size)


def each(where: Callable[[LedgerRow], bool], **changes: object) -> Callable[[Rows], Rows]:
    """Other values in every row that fits."""

    def change(rows: Rows) -> Rows:
        assert any(map(where, rows))
        return [dataclasses.replace(row, **changes) if where(row) else row for row in rows]  # type: ignore[arg-type]

    return change


def trained_otherwise(change: Callable[[RunSpec], RunSpec]) -> Callable[[Rows], Rows]:
    """The rows of a cell are of runs with other settings, under the name of the protocol."""

    def forged(rows: Rows) -> Rows:
        first = next(filter(of("vae"), rows))
        changed = change(planned(first))
        return [
            dataclasses.replace(
                row,
                run_key=dataclasses.replace(changed, seed=row.seed).run_key,
                configuration=configuration_of(changed),
            )
            if of("vae")(row)
            else row
            for row in rows
        ]

    return forged


def planned(row: LedgerRow) -> RunSpec:
    """The run of a row, as its protocol plans it."""
    plans = _Plans()
    protocol = plans.protocol(row)
    assert protocol is not None
    return plans.spec(row, protocol)


def epochs(spec: RunSpec) -> RunSpec:
    """Twice as long."""
    return dataclasses.replace(
        spec, train=dataclasses.replace(spec.train, epochs=2 * (spec.train.epochs or 1))
    )


def without(seed: int, model: str, size: int | None, protocol: str = "quick") -> Callable:
    """A seed of a cell removed."""

    def change(rows: Rows) -> Rows:
        left = [row for row in rows if not (of(model, size, protocol)(row) and row.seed == seed)]
        assert len(left) == len(rows) - 1
        return left

    return change


def one_more(rows: Rows) -> Rows:
    """A seed more than the spread of a cell needs."""
    last = [row for row in rows if of("fc_ae", 32)(row)][-1]
    spec = dataclasses.replace(planned(last), seed=last.seed + 1)
    return [*rows, dataclasses.replace(last, seed=spec.seed, run_key=spec.run_key)]


def in_turn(*changes: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    """One change after the other."""

    def change(rows: Rows) -> Rows:
        for one in changes:
            rows = one(rows)
        return rows

    return change


def numbers(
    where: Callable[[LedgerRow], bool], column: str, **changes: float | None
) -> Callable[[Rows], Rows]:
    """Other scores or facts in every row that fits; None: without it."""

    def changed(row: LedgerRow) -> LedgerRow:
        values = {**getattr(row, column), **changes}
        kept = {name: value for name, value in values.items() if value is not None}
        return dataclasses.replace(row, **{column: kept})  # type: ignore[arg-type]

    return lambda rows: [changed(row) if where(row) else row for row in rows]


def of_other_images(rows: Rows) -> Rows:
    """Every row of the bundled pictures is of others, and its run follows."""

    def changed(row: LedgerRow) -> LedgerRow:
        if row.dataset != "fashion_mnist_mini":
            return row
        row = dataclasses.replace(row, data_digest="e" * 64)
        spec = planned(row)
        return dataclasses.replace(row, run_key=spec.run_key, configuration=configuration_of(spec))

    return [*map(changed, rows)]


def of_nobody(rows: Rows) -> Rows:
    """More rows, of a variant and a protocol that there are not."""
    return [
        *rows,
        *(
            dataclasses.replace(
                row,
                protocol="super",
                protocol_fingerprint="1" * 16,
                model="super_ae",
                run_key=row.run_key[::-1],
                configuration="2" * 16,
            )
            for row in filter(of("vae"), rows)
        ),
    ]


def quick(row: LedgerRow) -> bool:
    """Whether a row is of `quick`."""
    return row.protocol == "quick"


ATTACKS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "trained twice as long": (trained_otherwise(epochs), "run_key is"),
    "another KL weight": (
        trained_otherwise(
            lambda spec: dataclasses.replace(
                spec, hyperparameters={**spec.hyperparameters, "beta": 0.01}
            )
        ),
        "run_key is",
    ),
    "a configuration of another row": (each(of("vae"), configuration="0" * 16), "configuration is"),
    "other settings of the protocol": (
        each(quick, protocol_fingerprint="0" * 16),
        "protocol_fingerprint is",
    ),
    "scored otherwise": (each(quick, evaluation_digest="0" * 16), "evaluation_digest is"),
    "one row scored otherwise, the newest": (
        each(of("vae"), evaluation_digest="0" * 16, finished=datetime.now(UTC)),
        "evaluation_digest is",
    ),
    "chosen by another metric": (each(quick, selection_metric="psnr"), "selection_metric is psnr"),
    "an origin's protocol ranked": (
        each(lambda row: row.protocol == "s1", ranked=True),
        "ranked is True",
    ),
    "a row that is not ranked": (each(of("vae"), ranked=False), "ranked is False"),
    "a revision that there never was": (
        each(of("vae"), model_revision=99),
        "model_revision is 99",
    ),
    "a variant that there is not": (each(of("vae"), model="super_ae"), "is no variant of bench"),
    "a variant that there is not, in a protocol that there is not": (
        of_nobody,
        "is no variant of bench",
    ),
    "no error at 8 bits": (
        numbers(of("vae"), "scores", val_mse_8bit=None, test_mse_8bit=None),
        "val_mse_8bit is missing",
    ),
    "no error at 8 bits on test": (
        numbers(of("vae"), "scores", test_mse_8bit=None),
        "test_mse_8bit is missing",
    ),
    "no linear probe": (
        numbers(of("vae"), "scores", test_probe_accuracy=None),
        "test_probe_accuracy is missing",
    ),
    "no distance of draws": (
        numbers(of("vae"), "scores", val_fcd_mixture=None),
        "val_fcd_mixture is missing",
    ),
    "an absolute error above its root": (
        numbers(of("vae"), "scores", test_mae=0.9),
        "test_mae is 0.9, with this MSE",
    ),
    "a PSNR below that of its error": (
        numbers(of("vae"), "scores", val_psnr=5.0),
        "val_psnr is 5, with this MSE",
    ),
    "more active numbers than numbers": (
        numbers(of("vae"), "facts", active_units=99.0),
        "active_units is 99, outside of 0 to 8",
    ),
    "fewer active numbers than its scores say": (
        numbers(of("fc_ae"), "facts", active_units=1.0),
        "active_units is 1.0, its scores say",
    ),
    "a note left out": (numbers(of("vae"), "facts", output_std=None), "output_std is missing"),
    "few training images": (numbers(of("vae"), "facts", train_images=60.0), "is 60"),
    "few training images in all rows": (
        numbers(lambda row: row.dataset == "mnist", "facts", train_images=5000.0),
        "train_images is 5000",
    ),
    "an epoch after the last": (
        numbers(of("vae"), "facts", best_epoch=999.0),
        "best_epoch is 999, the recipe has 24 epochs",
    ),
    "trained in no time": (
        numbers(of("vae"), "facts", train_seconds=1e-9),
        "the recipe has 144000",
    ),
    "not trained": (numbers(of("vae"), "facts", train_seconds=0.0), "train_seconds is 0"),
    "not computed": (numbers(of("vae"), "facts", multiply_adds=0.0), "multiply_adds is 0"),
    "right more often than always": (
        numbers(of("mlp_classifier", None, "classifier_quick"), "facts", best_val_accuracy=1.5),
        "best_val_accuracy is 1.5, outside of 0 to 1",
    ),
    "finished next week": (
        each(of("vae"), finished=datetime.now(UTC) + timedelta(days=7)),
        "after tomorrow",
    ),
    "other hyperparameters beside the run": (
        each(of("vae"), hyperparameters="beta=1"),
        "hyperparameters is beta=1",
    ),
    "other images under the name of the bundled ones": (of_other_images, "data_digest is e"),
    "another split of the bundled images": (
        each(quick, split_digest="f" * 64),
        "split_digest is f",
    ),
    "one seed is enough": (each(of("vae"), closed_form=True), "closed_form is True"),
    "another rule of seeds": (each(of("vae"), seed_rule="3..10 until 0.5"), "seed_rule is"),
    "a bad seed removed": (without(1, "vae", 8), "seeds 0, 1, 2 and so on expected"),
    "the last seed removed": (without(3, "cnn_ae", 32), "another seed needed"),
    "the last of three seeds removed": (without(2, "vae", 8), "fewer than 3 seeds"),
    "seeds until one is good": (one_more, "seeds were enough"),
    "a seed of a list removed, and the list": (
        in_turn(
            without(2, "mlp_classifier", None, "classifier_quick"),
            each(of("mlp_classifier", None, "classifier_quick"), seed_rule=""),
        ),
        "seeds 0, 1, 2 expected",
    ),
    "a seed removed, and the rule": (
        in_turn(without(3, "cnn_ae", 32), each(of("cnn_ae", 32), seed_rule="")),
        "another seed needed",
    ),
}


def test_the_committed_rows_are_what_their_protocols_plan(committed: Results) -> None:
    check_rows(committed.ledger, shipped=True)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_row_of_a_shipped_protocol_is_what_it_plans(committed: Results, name: str) -> None:
    change, words = ATTACKS[name]
    with pytest.raises(CheckFailed, match=words):
        check_rows(change(list(committed.ledger)), shipped=True)


def test_a_row_of_today_in_tables_of_earlier_versions_is_let_be(committed: Results) -> None:
    """Workspaces keep tables that other versions made."""
    change, _ = ATTACKS["trained twice as long"]
    check_rows(change(list(committed.ledger)), shipped=False)


def test_committed_tables_are_held_against_shipped_protocols(
    promoted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny protocol of the tests has the name `quick`: only elsewhere may it."""
    assert publishing.check(promoted)
    monkeypatch.setattr(publishing, "is_shipped", lambda _: True)
    for command in (
        lambda: publishing.check(promoted),
        lambda: publishing.write(promoted, Scope(), refresh=False),
    ):
        with pytest.raises(CheckFailed, match="the shipped protocol gives"):
            command()


def test_a_cell_that_needs_another_seed_is_held_back_until_it_has_it(
    ran: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is written passes its check, also while long trainings go on."""
    monkeypatch.setattr(publishing, "is_shipped", lambda _: True)
    monkeypatch.setattr(checking, "known_protocols", list)  # the tiny one is called `quick`
    last = next(
        record_folder(ran.records, record.run_key)
        for record in iter_records(ran.records)
        if (record.spec.model, record.spec.latent_dim, record.spec.seed) == ("fc_ae", 4, 2)
    )
    aside = shutil.move(last, ran.root / "aside")

    def written() -> list[tuple[int, int]]:
        rows = read_results(ran.registry).ledger
        return sorted((row.latent_dim, row.seed) for row in rows if row.model == "fc_ae")

    found = publishing.write(ran, Scope(), refresh=False)
    assert any("fc_ae d=4" in line and "seeds 0, 1, 2 expected" in line for line in found.lines)
    assert written() == [(8, 0), (8, 1), (8, 2)]
    assert publishing.check(ran)

    shutil.move(aside, last)
    found = publishing.write(ran, Scope(), refresh=False)
    assert not any("held back" in line for line in found.lines)
    assert written() == [(4, 0), (4, 1), (4, 2), (8, 0), (8, 1), (8, 2)]
    assert publishing.check(ran)


def test_a_tuned_row_without_a_study_is_neither_checked_nor_written(
    promoted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies(promoted)
    assert publishing.check(promoted)  # a workspace of one's own
    monkeypatch.setattr(publishing, "is_shipped", lambda _: True)
    tables = read_results(promoted.registry)
    monkeypatch.setattr(publishing, "check_results", lambda *_, **__: (tables, 0))
    monkeypatch.setattr(publishing, "check_settings", lambda _: None)
    for command in (
        lambda: publishing.check(promoted),
        lambda: publishing.write(promoted, Scope(), refresh=False),
    ):
        with pytest.raises(CheckFailed, match=r"no study in registry/studies/ chose its settings"):
            command()


def test_copies_between_training_and_test_may_not_be_left_out() -> None:
    """Also where other facts of older records may."""
    assert other_fact({}, {"active_fraction": 0.5}) == ""
    assert "copied_images is 3" in other_fact({}, {COPIED: 3.0})
    assert "copied_images is nan" in other_fact({COPIED: 3.0}, {})
