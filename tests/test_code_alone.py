"""The score uses the code alone: images are encoded here and decoded by another process."""

import _thread
import contextlib
import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cheats
import numpy as np
import psutil
import pytest
import torch

from bench.benchmark.plan import Request, plan
from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import Splits, load_set, load_splits
from bench.evaluation import scoring
from bench.evaluation.codes import checked_codes, from_bytes, to_bytes
from bench.evaluation.scoring import on_device, score
from bench.evaluation.sealed import sealed
from bench.execution import decoding, runner
from bench.execution.decoding import DecoderLost, decoder_of
from bench.execution.events import Failed, Finished
from bench.execution.recomputing import recompute
from bench.execution.runner import build, execute, ignore_epochs
from bench.execution.worker import attempt
from bench.leaderboard.ledger import row_of, score_columns
from bench.leaderboard.ranking import rank_table
from bench.leaderboard.render import full_table
from bench.leaderboard.significance import Significance
from bench.models.base import Autoencoder, ClosedFormAutoencoder
from bench.models.rows import Variant
from bench.models.zoo import MODELS
from bench.records.files import iter_records, read_weights
from bench.training.train import FitConfig, FitData, fit

ROOT = Path(__file__).parent.parent
PROTOCOL = """
name = "few"
description = "one epoch on a few real images"
dataset = "npz:{path}"
latent_dims = [4]
seeds = [0]
[split]
kind = "pooled"
validation = 110
test = 130
[train]
epochs = 1
batch_size = 64
lr = 0.003
[evaluation]
metrics = ["mse", "psnr", "ssim", "mse_8bit", "psnr_8bit", "ssim_8bit", "mse_4bit", "mse_2bit"]
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    """440 real images."""
    folder = tmp_path_factory.mktemp("few")
    images = load_set("fashion_mnist_mini").parts["train"]
    np.savez(folder / "few.npz", x_train=images.images[:440, 0], y_train=images.labels[:440])
    (folder / "few.toml").write_text(PROTOCOL.format(path=folder / "few.npz"))
    return load_protocol(str(folder / "few.toml"))


def _planned(
    protocol: Protocol, store: Store, model: str, size: int | None = 4
) -> tuple[RunSpec, Splits]:
    request = Request(protocol, (model,), () if size is None else (size,), native=size is None)
    spec = next(s for s in plan(request, store).specs if s.latent_dim == size)
    return spec, load_splits(spec.dataset, spec.split)


def _network(spec: RunSpec, splits: Splits) -> Autoencoder:
    model = build(spec, splits)
    assert isinstance(model, Autoencoder)
    if isinstance(model, ClosedFormAutoencoder):
        model.fit(torch.from_numpy(splits.train.images))
    return model


Run = Callable[[type[cheats.Honest]], Failed | Finished]
AUTOENCODERS = [name for name, row in MODELS.items() if row.kind == "autoencoder"]


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_every_variant_scores_the_same_apart_bit_for_bit(
    name: str, few: Protocol, store: Store
) -> None:
    row = MODELS[name]
    natives = [None] if row.native_latent_dim is None and not row.closed_form else []
    for size in (4, *natives):
        spec, splits = _planned(few, store, name, size)
        model = _network(spec, splits)
        decode = decoder_of(model, spec, runner._weights(model))
        apart, direct = score(model, spec, splits, decode), score(model, spec, splits)
        assert apart.means() == direct.means() and apart.signs() == direct.signs()
        assert ("mse_8bit" in direct.means()["val"]) == (name not in ("mean_image", "vq_vae"))
        found, expected = apart.arrays(), direct.arrays()
        assert list(found) == list(expected)
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=key)


def test_runs_and_rescoring_decode_apart_and_encode_each_image_once(
    few: Protocol, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, splits = _planned(few, store, "pca")
    encoded = 0
    encode = type(_network(spec, splits)).encode

    def counted(self: Autoencoder, x: torch.Tensor) -> torch.Tensor:
        nonlocal encoded
        encoded += len(x)
        return encode(self, x)

    sent: list[tuple[str, int]] = []
    ask = decoding._Process.ask

    def noted(self: decoding._Process, about: dict[str, object], content: bytes) -> bytes:
        sent.append((str(about["do"]), len(content)))
        return ask(self, about, content)

    monkeypatch.setattr(type(_network(spec, splits)), "encode", counted)
    monkeypatch.setattr(decoding._Process, "ask", noted)
    monkeypatch.setattr("bench.evaluation.scoring.build_gallery", lambda *_: {})
    record = execute(spec, store, ignore_epochs)
    assert encoded == 1 + 440, "one image of zeros counts the multiply-adds"
    decoded = [size for do, size in sent if do == "decode"]
    # Each part with 32, 8, 4 and 2 bits per number, and once more to compare: 4 float32 a code.
    assert sum(decoded) == 4 * 4 * (4 * (110 + 130) + 110 + 130)
    sent.clear()
    again = recompute(spec, read_weights(store.records, record)).scores
    assert again == {part: dict(scores) for part, scores in record.scores.items()}
    assert [do for do, _ in sent].count("take") == 1 and len(sent) > 4


@pytest.fixture
def cheating(few: Protocol, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a model of `cheats` like any variant."""

    def run(network: type[cheats.Honest]) -> Failed | Finished:
        row = Variant(
            line="a model of a test",
            origin="literature",
            build=network,
            native_parameters=784,
            native_latent_dim=4,
            closed_form=True,
            search={},
        )
        name = network.__name__.lower()
        monkeypatch.setitem(MODELS, name, row)
        cheats.kept.clear()
        event = attempt(_planned(few, store, name)[0], store, ignore_epochs)
        assert isinstance(event, Failed | Finished)
        return event

    models = dict(MODELS)
    for where in ("bench.models.zoo", "bench.benchmark.plan"):
        monkeypatch.setattr(f"{where}.MODELS", models)
    monkeypatch.setattr(sys.modules[__name__], "MODELS", models)
    yield run
    cheats.FILE.unlink(missing_ok=True)


def test_a_model_that_does_not_cheat_is_scored(cheating: Run, store: Store) -> None:
    event = cheating(cheats.Honest)
    assert isinstance(event, Finished), event
    assert event.record.scores["val"]["mse"] < 0.2
    assert event.record.scores["val"]["mse_8bit"] == pytest.approx(
        event.record.scores["val"]["mse"], rel=0.01
    )


@pytest.mark.parametrize("network", cheats.REFUSED, ids=lambda network: network.__name__)
def test_a_cheat_is_refused_with_its_reason_in_one_line(
    network: type[cheats.Honest], cheating: Run, store: Store
) -> None:
    event = cheating(network)
    assert isinstance(event, Failed)
    assert "\n" not in event.reason and not event.detail
    with pytest.raises(AssertionError, match=cheats.REFUSED[network]):
        raise AssertionError(event.reason)
    assert not list(iter_records(store.records))


def test_a_score_that_is_no_number_is_refused(
    cheating: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_averages", lambda scores: dict.fromkeys(scores, np.nan))
    event = cheating(cheats.Honest)
    assert isinstance(event, Failed) and not event.detail, event
    assert "its mse on val is nan, which is no score" in event.reason


def test_validation_images_may_not_be_learned_where_they_are_scored(few: Protocol) -> None:
    splits = load_splits(few.dataset, few.split)
    cpu = torch.device("cpu")
    data = FitData(on_device(splits.train, cpu), on_device(splits.validation, cpu))
    config = FitConfig(few.train, few.evaluation, "mse", 0)
    with pytest.raises(CheckFailed, match=r"changes its weights \(seen\) where it is scored"):
        fit(cheats.Learner((1, 28, 28), 4), data, config, ignore_epochs)
    honest = cheats.Learner((1, 28, 28), 4)
    honest.remembers = False
    assert fit(honest, data, config, ignore_epochs).status == "finished"


def test_a_module_may_read_code_and_libraries_and_no_images_when_it_is_imported(
    tmp_path: Path,
) -> None:
    for name in ("images.npy", "images.txt", "mine.json"):
        (tmp_path / name).write_text("x")
    bundled = next((ROOT / "bench/data/bundled").rglob("*ubyte*"))
    in_memory = Path("/dev/shm/images.txt")  # among devices, but everybody may write there
    for path in (*tmp_path.iterdir(), bundled, in_memory):
        with (
            pytest.raises(CheckFailed, match="its module opened"),
            sealed("its module", "libraries"),
        ):
            path.read_bytes()
    with sealed("its module", "libraries"):
        Path(np.__file__).with_name("py.typed").read_bytes()
        Path(cheats.__file__).read_bytes()
        (tmp_path / "cache").write_text("x")


def test_a_module_that_brings_images_along_is_refused(
    cheating: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder would send the place of an image, and the decoder have all of them."""
    file = tmp_path / "brings_images.py"
    file.write_text(
        "from cheats import Honest\nfrom bench.data import load_set\n"
        "IMAGES = load_set('fashion_mnist_mini').parts['test'].images\n"
        "class Net(Honest): ...\n"
    )
    found = importlib.util.spec_from_file_location("brings_images", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "brings_images", module)
    found.loader.exec_module(module)
    event = cheating(module.Net)
    assert isinstance(event, Failed)
    assert "its module opened " in event.reason and "fashion_mnist_mini" in event.reason


def test_a_network_that_works_in_place_is_scored_on_the_images_as_they_are(cheating: Run) -> None:
    found = [cheating(network) for network in (cheats.Honest, cheats.InPlace)]
    honest, other = (each.record.scores for each in found if isinstance(each, Finished))
    assert honest == other


def test_a_network_that_works_in_place_is_not_trained(few: Protocol) -> None:
    class InPlace(cheats.Learner):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return super().encode(x.sub_(0.5))

    model = InPlace((1, 28, 28), 4).train()
    model.remembers = False
    with pytest.raises(CheckFailed, match="it changes the images that it is given"):
        model.loss(torch.rand(5, 1, 28, 28))


@pytest.mark.parametrize(
    "network",
    [cheats.Packed, cheats.Remembers, cheats.PackedUnrounded],
    ids=lambda network: network.__name__,
)
def test_what_is_packed_into_digits_is_lost_at_8_bits(
    network: type[cheats.Honest], cheating: Run
) -> None:
    event = cheating(network)
    assert isinstance(event, Finished), event
    honest = cheating(cheats.Honest)
    assert isinstance(honest, Finished)
    packed, plain = event.record.scores["val"], honest.record.scores["val"]
    assert packed["mse"] < 0.95 * plain["mse"], "it cheats"
    assert packed["mse_8bit"] > 1.25 * packed["mse"]
    rows = [row_of(event.record), row_of(honest.record)]
    table = {
        cell.model: cell
        for cell in rank_table(rows, Significance(), {"mse": False}, score_columns(rows))
    }
    cell = table[network.__name__.lower()]
    assert cell.why_unranked == "its code needs more than 8 bits per number"
    share = 100 * (packed["mse_8bit"] / packed["mse"] - 1)
    assert f"needs more than 8 bits per number: +{share:.0f} %" in cell.badges
    assert table["honest"].why_unranked == "not compared yet"
    assert not any("8 bits" in badge for badge in table["honest"].badges)
    assert cell.code_bits == table["honest"].code_bits == 4 * 32
    shown = full_table([cell, table["honest"]])
    assert [column.title for column in shown.columns].count("bits") == 1
    assert "test MSE at 8 bits" in [column.title for column in shown.columns]


def test_codes_travel_as_their_numbers_alone() -> None:
    codes = torch.tensor([[0.1, -2.0], [3e38, 1e-45]])
    assert len(to_bytes(codes, False)) == 4 * 4
    assert torch.equal(from_bytes(to_bytes(codes, False), 2, 2, False), codes)
    whole = torch.tensor([[0.0, 511.0, 7.0]])
    assert to_bytes(whole, True) == np.array([0, 511, 7], "<i8").tobytes()
    assert torch.equal(from_bytes(to_bytes(whole, True), 1, 3, True), whole)
    assert to_bytes(torch.zeros(5, 0), False) == b""
    assert from_bytes(b"", 5, 0, False).shape == (5, 0)


def test_what_is_no_code() -> None:
    model = cheats.Honest((1, 28, 28), 4)
    good = torch.zeros(3, 4)
    assert checked_codes(model, good, 3) is good
    for wrong in (good[:2], good[:, :3], good[0], good.half(), good.int(), good * torch.nan, None):
        with pytest.raises(CheckFailed, match=r"its (encoder gives|codes)"):
            checked_codes(model, wrong, 3)
    discrete = cheats.WholeNumbers((1, 28, 28), 4)
    assert checked_codes(discrete, good + 3, 3) is not None
    for number in (4.0, -1.0, 0.5):
        with pytest.raises(CheckFailed, match="not whole from 0 to 3"):
            checked_codes(discrete, good + number, 3)


def test_the_decoder_ends_with_its_process(few: Protocol, store: Store) -> None:
    """Also when that one is killed."""
    code = """
import sys, time
from bench.execution import decoding
process = decoding._process()
print(process.process.pid, flush=True)
time.sleep(60)
"""
    head = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert head.stdout is not None
    child = psutil.Process(int(head.stdout.readline()))
    head.kill()
    head.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_decoder_that_dies_fails_one_run_and_the_next_gets_another(
    few: Protocol, store: Store
) -> None:
    spec, splits = _planned(few, store, "pca")
    model = _network(spec, splits)
    weights = runner._weights(model)
    decode = decoder_of(model, spec, weights)
    codes = torch.zeros(2, 4)
    expected = decode(codes)
    first = decoding._process()
    first.process.send_signal(signal.SIGINT)  # Ctrl-C is for the head
    assert torch.equal(decode(codes), expected)
    first.process.kill()
    first.process.wait()
    with pytest.raises(DecoderLost, match=r"that decodes its codes ended .*SIGKILL"):
        decode(codes)
    assert torch.equal(decoder_of(model, spec, weights)(codes), expected)
    assert decoding._process() is not first


def test_a_process_that_was_forked_starts_a_decoder_of_its_own() -> None:
    process = decoding._process()
    assert process.usable
    assert not dataclasses.replace(process, owner=os.getpid() + 1).usable


def test_other_threads_and_later_code_are_free(tmp_path: Path) -> None:
    with sealed("its encoder"):
        (Path(__file__)).read_bytes()
    with pytest.raises(CheckFailed, match=r"opened .*new to write"), sealed("its encoder"):
        (tmp_path / "new").write_text("x")
    (tmp_path / "new").write_text("x")
    sealed_decoder = sealed("its decoder", "code")
    with pytest.raises(CheckFailed, match="its decoder opened"), sealed_decoder:
        (tmp_path / "new").read_text()
    for act in (
        lambda: subprocess.run(["true"], check=False),
        lambda: (tmp_path / "new").rename(tmp_path / "old"),
        lambda: os.environ.__setitem__("IMAGE", "1"),
        lambda: os.open(tmp_path / "new", os.O_RDWR),
        lambda: __import__("socket").socket(),
        lambda: threading.Thread(target=print).start(),
        lambda: _thread.start_new_thread(print, ()),
    ):
        with pytest.raises(CheckFailed, match="its encoder"), sealed("its encoder"):
            act()
    assert (tmp_path / "new").exists() and "IMAGE" not in os.environ
