"""One tracked workspace of real records for all tests of tracking."""

import pytest
import tracked_store

from bench.core.protocol import Protocol
from bench.core.store import Store


@pytest.fixture(scope="session")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    return tracked_store.tiny(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, protocol: Protocol) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "BENCH_TRACKING"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "notebook")  # as people have it; not ours to fill
        return tracked_store.build(tmp_path_factory.mktemp("tracked"), protocol)


@pytest.fixture
def fresh(tracked: Store, store: Store) -> Store:
    """An empty workspace whose MLflow store is made already (that takes seconds)."""
    tracked_store.empty_mlflow(tracked, store)
    return store
