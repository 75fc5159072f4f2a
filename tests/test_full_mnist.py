"""S3's figures on all of MNIST, read from CSV files as its authors read them.

These need the official files (`bench data fetch mnist`) and skip with that reason where they are
missing.
"""

import os
from pathlib import Path

import pytest

from bench.benchmark.plan import Request, plan
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.data import LabelledImages, load_set, load_splits
from bench.data.fetch import fetch
from bench.data.known import find
from bench.data.table import DATASETS
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import ledger_of, row_of
from bench.leaderboard.origins import REPRODUCED, claims_of, findings_of

DENSE = load_protocol("origins/s3_dense")


@pytest.fixture(scope="module")
def digest_of_idx() -> str:
    """The digest of the official files as they are."""
    # Damaged files are no reason to skip: they fail when they are read.
    if find(DATASETS["mnist"]) is None:
        if "mnist" in os.environ.get("BENCH_REQUIRE_FULL_DATA", "").split():
            pytest.fail("the full MNIST files are missing")
        pytest.skip("the full MNIST files are not here: bench data fetch mnist")
    return load_splits(DENSE.dataset, DENSE.split).digest


def write_csv(images: LabelledImages, path: Path) -> None:
    """`label,pixel0,...,pixel783` and a line a digit, as such files are passed around."""
    with path.open("w") as stream:
        stream.write(",".join(["label", *(f"pixel{k}" for k in range(784))]) + "\n")
        for label, image in zip(images.labels, images.images.reshape(-1, 784), strict=True):
            stream.write(f"{label}," + ",".join(map(str, image.tolist())) + "\n")


@pytest.mark.slow(minutes=4)
def test_tapered_ae_reaches_the_figure_of_its_origin_from_csv_files(
    digest_of_idx: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    for part, images in load_set("mnist").parts.items():
        write_csv(images, tables / f"mnist_{part}.csv")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    fetch("mnist", tables)
    splits = load_splits(DENSE.dataset, DENSE.split)
    assert splits.digest == digest_of_idx
    assert len(splits.train.images) == 42_000

    spec = plan(Request(DENSE, device="cpu"), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    ledger = ledger_of([row_of(record)])
    (found,) = findings_of(claims_of([DENSE]), ledger)
    assert found.verdict == REPRODUCED, found
    # The published error is on [-1, 1], where squares are four times those on [0, 1].
    assert found.ours == pytest.approx(4 * record.scores["test"]["mse"], rel=0.1)
