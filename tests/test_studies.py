"""A tuned row needs its study: how the recipe was chosen is committed with the ledger, and settings
that somebody wrote into a `winner.toml` are refused."""

# ruff: noqa: E501

import dataclasses
import json
from pathlib import Path

import pytest
from sweep_support import make_plan
from test_seeds_sweep import Both, Workers, adaptive  # noqa: F401

from bench.core.errors import CheckFailed
from bench.core.identity import digest
from bench.core.recipes import budget
from bench.core.store import Store
from bench.leaderboard.ledger import Ledger, configuration_of
from bench.models.settings import with_settings
from bench.records.studies import STUDY_FILE, StudyRecord, StudyTrial, read_study
from bench.registry.results import Scope, local_rows
from bench.registry.studies import check_studies, explains, new_studies
from bench.sweep.results import study_folder
from bench.sweep.running import tune_study


@pytest.fixture
def tuned(adaptive, store: Store) -> tuple[Store, StudyRecord, Ledger]:  # noqa: F811
    """A finished study, its file in the workspace, and the rows that its winner gave."""
    path = Path(adaptive)
    path.write_text(path.read_text().replace("lr = 0.003", "lr = 0.0002"))  # others do better
    outcome = tune_study(make_plan(adaptive, store), Workers(store, Both(store)), lambda _: None)
    study = read_study(study_folder(store, outcome.study) / STUDY_FILE, "")
    assert study is not None
    rows = [row for row in local_rows(store, Scope()) if budget(row.recipe)]
    assert rows
    return store, study, rows


def commit(store: Store, files: dict[str, bytes]) -> None:
    """Write files to the registry."""
    for name, content in files.items():
        path = store.registry / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_sweep_writes_its_study_and_the_ledger_takes_it(tuned):
    store, study, rows = tuned
    assert len(study.trials) == 6 == budget(rows[0].recipe)
    assert all(explains(study, row) for row in rows)
    files = new_studies(store, rows)
    assert list(files) == [f"studies/{study.study}.json"]
    with pytest.raises(CheckFailed, match="no study in registry/studies/ chose its settings"):
        check_studies(store.registry, rows)
    commit(store, files)
    check_studies(store.registry, rows)
    assert not new_studies(store, rows)
    with pytest.raises(CheckFailed, match="explains no row"):
        check_studies(store.registry, [])
    # A recipe of one's own, more trials than there were, other images.
    own = configuration_of(with_settings(study.base, {"lr": 0.0123}))
    assert not explains(study, dataclasses.replace(rows[0], configuration=own))
    assert not explains(study, dataclasses.replace(rows[0], recipe="tuned (7 trials)"))
    assert not explains(study, dataclasses.replace(rows[0], data_digest=digest({})))


def test_a_damaged_file_is_named_with_its_cure_and_the_same_sweep_writes_it_again(tuned, adaptive):  # noqa: F811
    store, study, rows = tuned
    path = study_folder(store, study.study) / STUDY_FILE
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"0.0", b"0.1", 1))
    with pytest.raises(
        CheckFailed, match=r"doctor --fix. puts it aside, and the same .bench sweep"
    ):
        new_studies(store, rows)
    # Another study's file is no obstacle where the sound ones explain every row.
    another = study_folder(store, "another")
    another.mkdir()
    path.rename(another / STUDY_FILE)
    path.write_bytes(sound)
    assert list(new_studies(store, rows)) == [f"studies/{study.study}.json"]
    path.unlink()
    tune_study(make_plan(adaptive, store), Workers(store, Both(store)), lambda _: None)
    assert read_study(path, "") == study


@pytest.mark.parametrize("version", ["a\nb", "\x1b[2J", [1], None, 3, 10**400])
def test_a_schema_that_is_none_is_one_line(tmp_path, version):
    path = tmp_path / STUDY_FILE
    path.write_text(json.dumps({"schema_version": version}))
    with pytest.raises(CheckFailed) as caught:
        read_study(path, str(path))
    assert str(caught.value).isprintable() and len(str(caught.value)) < len(str(path)) + 90


def _set(**settings) -> StudyTrial:
    return StudyTrial(99, "", settings, "complete", 1e-9)


FORGED = {
    "is outside of its range": lambda s: (*s.trials, dataclasses.replace(_set(lr=0.01), settings={**s.trials[-1].settings, "lr": 7.0})),
    "settings that were not searched": lambda s: (*s.trials, _set(lr=0.01)),
    "a mse of -1": lambda s: (*s.trials, dataclasses.replace(s.trials[-1], number=99, value=-1.0)),
    "a trial is there twice": lambda s: (*s.trials, s.trials[-1]),
    "not the recipe 'default'": lambda s: (dataclasses.replace(s.trials[0], settings={**s.trials[0].settings, "lr": 0.019}), *s.trials[1:]),
}  # fmt: skip


def test_a_forged_study_is_found(tuned):
    store, study, rows = tuned
    for words, forged in FORGED.items():
        bad = dataclasses.replace(study, trials=forged(study))
        commit(store, {f"studies/{study.study}.json": bad.to_json()})
        with pytest.raises(CheckFailed, match=f"registry/studies/{study.study}.json: .*{words}"):
            check_studies(store.registry, rows)
    commit(store, {f"studies/{study.study}.json": study.to_json().replace(b"0.0", b"0.1", 1)})
    with pytest.raises(CheckFailed, match="does not match its digest"):
        check_studies(store.registry, rows)
