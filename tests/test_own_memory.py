"""The memory that images take is stated before it is taken: copies and workers count."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from own_images import GREY, rows_of, write_csv

from bench.benchmark.checks import check_memory
from bench.core.errors import BadInput
from bench.core.spec import SplitSizes
from bench.data import load_set


def free_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    free = type("Memory", (), {"available": size})
    monkeypatch.setattr("bench.data.limits.psutil.virtual_memory", lambda: free)


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.float32])
def test_arrays_are_never_in_memory_as_they_are_stored(kind: type, tmp_path: Path) -> None:
    values = np.repeat(GREY[:, None], 150, axis=1).reshape(-1, 28, 28)
    stored = (values / 255).astype(kind) if kind is not np.int64 else values.astype(kind)
    np.savez_compressed(tmp_path / "x.npz", x=stored)
    size, stored = stored.nbytes, None
    tracemalloc.start()
    try:
        found = load_set(f"npz:{tmp_path}/x.npz").parts["train"].images
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found[:, 0], values)
    assert peak < values.nbytes + (16 << 20) < size


def test_a_table_takes_little_more_than_its_images(tmp_path: Path) -> None:
    rows = rows_of() * 50
    path = write_csv(tmp_path / "x.csv", rows)
    tracemalloc.start()
    try:
        images = load_set(f"csv:{path}").parts["train"].images
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(images) == 3000 and peak < images.nbytes + (30 << 20)


@pytest.mark.parametrize("packed", [True, False])
def test_the_rows_of_a_table_are_counted_before_memory_is_taken(
    packed: bool, tmp_path: Path, monkeypatch
) -> None:
    path = write_csv(tmp_path / "x.csv", rows_of() * 50)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    free_memory(monkeypatch, 4 << 20)
    with pytest.raises(BadInput, match=r"needs 2\.2 MiB of memory .* only 2\.0 MiB"):
        load_set(f"csv:{path}")
    free_memory(monkeypatch, 5 << 20)
    assert load_set(f"csv:{path}").counts == {"train": 3000}


def test_the_need_of_workers_is_checked_before_they_start(monkeypatch) -> None:
    sizes = SplitSizes(6000, 1000, 1000, (3, 64, 64))
    each = 2 * 8000 * 3 * 64 * 64
    free_memory(monkeypatch, 4 * each)
    check_memory(sizes, 4)
    with pytest.raises(BadInput) as caught:
        check_memory(sizes, 5)
    for words in ("5 workers need 937.5 MiB", "93.8 MiB 2 times in each", "--workers 4"):
        assert words in str(caught.value), str(caught.value)
    free_memory(monkeypatch, each - 1)
    with pytest.raises(BadInput, match="fewer or smaller images"):
        check_memory(sizes, 1)
