"""Workspaces with a few real runs, made once a session and copied for each test."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_store import FRONT, Told, forget, publish, run_all, tiny_protocol

from bench.core.store import Store
from bench.registry import publishing
from bench.registry.results import Scope


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks of mean_image, pca and three seeds of fc_ae, run on the bundled images."""
    root = tmp_path_factory.mktemp("finished")
    run_all(Store(root).prepare(), tiny_protocol(root))
    return root


@contextlib.contextmanager
def _without_mlflow() -> Iterator[None]:
    """Keep MLflow out of the workspaces that are made once, and of nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.registry.mirror.register_version", lambda *_, **__: True)
        patch.setattr("bench.registry.mirror.clear_alias", lambda *_: True)
        yield


@pytest.fixture(scope="session")
def home_ran(finished_runs: Path) -> Path:
    """The runs, with a README."""
    (finished_runs / "README.md").write_text(FRONT)
    return finished_runs


@pytest.fixture(scope="session")
def home_written(home_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables written, nothing promoted."""
    root = tmp_path_factory.mktemp("written") / "home"
    shutil.copytree(home_ran, root)
    publishing.write(Store(root), Scope(), refresh=False)
    return root


@pytest.fixture(scope="session")
def home_promoted(home_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables written, pca champion of both tracks."""
    root = tmp_path_factory.mktemp("promoted") / "home"
    shutil.copytree(home_ran, root)
    with _without_mlflow():
        publish(Store(root))
    return root


@pytest.fixture(scope="session")
def home_replaced(home_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fc_ae was champion first, then pca was run and replaced it."""
    root = tmp_path_factory.mktemp("replaced") / "home"
    shutil.copytree(home_ran, root)
    store = Store(root)
    bring_back = forget(store, "pca", "mean_image")
    with _without_mlflow():
        publish(store)
        bring_back()
        publish(store)
    return root


def _copy(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    root = tmp_path / "home"
    shutil.copytree(source, root)
    monkeypatch.setenv("BENCH_HOME", str(root))
    return Store(root)


@pytest.fixture
def ran(home_ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy to be changed at will, and the store of commands: runs, nothing written."""
    return _copy(home_ran, tmp_path, monkeypatch)


@pytest.fixture
def written(home_written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the workspace with tables and without champions."""
    return _copy(home_written, tmp_path, monkeypatch)


@pytest.fixture
def promoted(home_promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the workspace with tables and champions."""
    return _copy(home_promoted, tmp_path, monkeypatch)


@pytest.fixture
def replaced(home_replaced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the workspace whose champion was replaced once."""
    return _copy(home_replaced, tmp_path, monkeypatch)


@pytest.fixture
def mlflow_told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """MLflow takes seconds a model and has tests of its own: here its calls are noted."""
    told = Told()

    def register(store, record, *, registered_name, alias, description, tags):
        assert description
        assert {"val_mse", "test_mse", "over_pca", "ranks", "best_in"} <= tags.keys()
        told.append((registered_name, alias, record.run_key))
        return True

    def clear(store, registered_name, alias):
        told.append((registered_name, alias, ""))
        return True

    monkeypatch.setattr("bench.registry.mirror.register_version", register)
    monkeypatch.setattr("bench.registry.mirror.clear_alias", clear)
    return told
