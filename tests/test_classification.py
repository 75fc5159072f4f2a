"""Classifiers end to end through the command, on real images: run, rank, promote, verify, tune."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner, Result

from bench.benchmark.reproduction import findings, plans_of
from bench.cli import app
from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import Expected, SplitConfig, load_protocol
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.data import load_splits
from bench.evaluation import feature_network
from bench.evaluation.feature_network import feature_spaces, load_feature_network
from bench.execution.recomputing import recompute
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import row_of
from bench.leaderboard.origins import PublishedFigure
from bench.metrics import metrics_of
from bench.models.zoo import MODELS
from bench.records import feature_cards
from bench.records.classes import class_scores, top_confusions
from bench.records.feature_cards import network_for
from bench.records.files import WEIGHTS, iter_records, read_arrays, read_weights
from bench.registry import load_champion, load_classifier
from bench.tracking.models import surroundings

REGISTRY = Path(__file__).parent.parent / "registry"
PROTOCOL = """
name = "tiny_classifier"
description = "two epochs on a few of the bundled images, for tests"
dataset = "fashion_mnist_mini"
task = "classification"
seeds = [0, 1, 2]
selection_metric = "accuracy"
[split]
kind = "pooled"
validation = 200
test = 6900
[train]
epochs = 2
batch_size = 64
lr = 0.005
schedule = "one_cycle"
[evaluation]
metrics = ["accuracy", "cross_entropy", "macro_precision", "macro_recall", "macro_f1",
  "calibration_error"]
"""
TRACK = "fashion_mnist_mini.tiny_classifier.classes10"


def _bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A workspace in which both classifiers were trained with three seeds and promoted."""
    folder = tmp_path_factory.mktemp("classifiers")
    (folder / "protocol.toml").write_text(PROTOCOL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for command in (
            ("run", "-p", str(folder / "protocol.toml"), "--workers", "1"),
            ("leaderboard", "--write"),
            ("promote",),
        ):
            done = _bench(*command)
            assert done.exit_code == 0, done.output
        yield Store(folder)


@pytest.fixture(scope="module")
def record(home: Store) -> RunRecord:
    """One of the convolutional classifier's."""
    return next(r for r in iter_records(home.records) if r.spec.model == "cnn_classifier")


def test_records_hold_what_pictures_and_tables_need(home: Store, record: RunRecord) -> None:
    assert str(record.track) == "classes10"
    assert record.spec.title == f"cnn_classifier seed {record.spec.seed}"
    assert {"parameters", "classes", "feature_size", "predicted_classes"} <= record.facts.keys()
    assert not {"code_size", "output_std"} & record.facts.keys()
    arrays = read_arrays(home.records, record)
    for part, short in (("validation", "val"), ("test", "test")):
        labels, called = arrays[f"label/{part}"], arrays[f"predicted/{part}"]
        counts = np.zeros((10, 10), np.int64)
        np.add.at(counts, (labels, called), 1)
        np.testing.assert_array_equal(arrays[f"confusion/{part}"], counts)
        assert (labels == called).mean() == pytest.approx(record.scores[short]["accuracy"])
        assert arrays[f"per_class/{part}"][:, 2].mean() == pytest.approx(
            record.scores[short]["macro_f1"], rel=1e-5
        )
        assert arrays[f"confidence/{part}"].dtype == np.float32
    sure = arrays["misclassified/confidence"]
    assert (sure[:-1] >= sure[1:]).all()
    assert (arrays["misclassified/label"] != arrays["misclassified/predicted"]).all()


def test_the_row_holds_the_accuracies_that_origins_publish(record: RunRecord) -> None:
    row = row_of(record)
    epochs = [epoch.values for epoch in record.history]
    best = max(epoch["val/accuracy"] for epoch in epochs)
    assert row.facts["train_accuracy"] == pytest.approx(epochs[-1]["train/accuracy"], rel=1e-8)
    assert row.facts["best_val_accuracy"] == pytest.approx(best, rel=1e-8)


def test_scores_are_found_again_from_the_weights(home: Store, record: RunRecord) -> None:
    again = recompute(record.spec, read_weights(home.records, record)).scores
    for part, scores in record.scores.items():
        assert again[part] == pytest.approx(scores, rel=1e-6)


GOLDEN = {
    # variant: (revision, test accuracy and cross-entropy under PROTOCOL, seed 0)
    "mlp_classifier": (1, 0.72014, 0.76388),
    "cnn_classifier": (1, 0.70319, 0.87689),
}


def test_numbers_do_not_move_unnoticed(home: Store) -> None:
    """As in test_golden.py: raise a revision when a change alters numbers on purpose."""
    rows = {name: row for name, row in MODELS.items() if row.kind == "classifier"}
    assert {name: row.revision for name, row in rows.items()} == {
        name: revision for name, (revision, _, _) in GOLDEN.items()
    }
    assert all(row.revision == 1 for row in metrics_of("classification").values())
    first = [
        r for r in iter_records(home.records) if (r.spec.seed, r.spec.recipe) == (0, "default")
    ]
    assert len(first) == len(GOLDEN)
    for record in first:
        _, accuracy, cross_entropy = GOLDEN[record.spec.model]
        assert record.scores["test"]["accuracy"] == pytest.approx(accuracy, abs=0.01)
        assert record.scores["test"]["cross_entropy"] == pytest.approx(cross_entropy, rel=0.02)


def test_the_leaderboard_has_columns_of_its_own(home: Store) -> None:
    rows = json.loads(_bench("leaderboard", "--json").stdout)
    rows = [row for row in rows if not row["committed_with_bench"]]
    assert {row["model"] for row in rows} == {"mlp_classifier", "cnn_classifier"}
    assert all(row["rank_low"] >= 1 and row["track"] == "classes10" for row in rows)
    first, last = (row["val_accuracy"] for row in rows)
    assert first >= last, "higher is better"
    page = (home.root / "registry/README.md").read_text()
    assert "### Classifiers of 10 classes" in page
    header = next(line for line in page.splitlines() if line.startswith("| rank"))
    assert "test macro F1" in header
    assert "PCA" not in header


def test_check_and_verify_prove_the_champion(home: Store) -> None:
    assert _bench("leaderboard", "--check").exit_code == 0
    verified = _bench("verify", TRACK)
    assert verified.exit_code == 0, verified.output
    card = (home.registry / "fashion_mnist_mini/tiny_classifier.classes10/card.md").read_text()
    assert "An image classifier" in card
    assert "| Trouser |" in card
    assert "Most frequent confusions: " in card
    assert "reliability.png" in card
    assert "autoencoder" not in card


def test_a_champion_is_pinned_once_as_a_feature_network(
    home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_folder = home.registry / "fashion_mnist_mini/tiny_classifier.classes10"
    sha256 = json.loads((champion_folder / "card.json").read_text())["weights"]["sha256"]
    taken = _bench("features", "pin", TRACK)
    assert taken.exit_code == 2
    assert "fashion_mnist_mini has feature network c80a16f02654 already" in taken.output
    monkeypatch.setattr(feature_cards, "shipped", lambda: Store(tmp_path))
    done = _bench("features", "pin", TRACK)
    assert done.exit_code == 0, done.output
    folder = home.registry / "features" / sha256
    network = load_feature_network(folder)
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    champion = load_classifier(champion_folder)
    with torch.no_grad():
        expected = champion.features(images.float() / 255)
        shares = champion(images.float() / 255).double().softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(network.features(images), expected)
    torch.testing.assert_close(network.confidence(network.features(images)), shares)
    assert expected.shape == (5, champion.feature_size)
    before = (folder / WEIGHTS).read_bytes()
    again = _bench("features", "pin", TRACK)
    assert again.exit_code == 2
    assert f"fashion_mnist_mini has feature network {sha256[:12]} already" in again.output
    # Neither a promotion nor a check takes it for a champion, and none replaces it.
    assert _bench("promote").exit_code == 0
    assert _bench("leaderboard", "--check").exit_code == 0
    assert (folder / WEIGHTS).read_bytes() == before
    (row,) = [
        row
        for row in json.loads(_bench("features", "list", "--json").stdout)
        if row["network"] == sha256[:12]
    ]
    assert row["serves"] == "fashion_mnist_mini"
    with pytest.raises(BadInput, match="1x28x28"):
        network.features(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(BadInput, match=r"takes uint8 images .*these are float32"):
        network.features(images.float() / 255)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    with pytest.raises(CheckFailed, match="its folder has another name"):
        load_feature_network(moved)
    changed = tmp_path / sha256
    shutil.copytree(folder, changed)
    with (changed / WEIGHTS).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckFailed, match="was changed"):
        load_feature_network(changed)
    card = (changed / "card.json").read_text()
    (changed / "card.json").write_text(card.replace('"serves"', '"serve"'))
    with pytest.raises(CheckFailed, match="damaged or of another version"):
        load_feature_network(changed)
    with pytest.raises(BadInput, match="no feature network in"):
        load_feature_network(home.registry / "nowhere")
    with pytest.raises(BadInput, match="load_classifier"):
        load_champion(champion_folder)


PINNED = {
    "fashion_mnist": "c80a16f026540af5d110ea3eb86d497a2138ca02c15d7ef0214eadd58fe70df4",
    "mnist": "a7906e08e3b31ea1363d2920bfbdeb8ae04e270bf1427f2827d857d563de2442",
}
"""Numbers made with other networks cannot be compared with those that are committed."""


@pytest.mark.parametrize("label", PINNED)
def test_the_committed_feature_networks_stay(label: str, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path)
    for name in (label, f"{label}_mini"):
        found = network_for(elsewhere, name)
        assert found is not None
        folder, card = found
        assert card.sha256 == PINNED[label] == folder.name
    assert folder == REGISTRY / "features" / PINNED[label]
    network = load_feature_network(folder)
    splits = load_splits(f"{label}_mini", SplitConfig())
    images, labels = (torch.from_numpy(part) for part in splits.test)
    with torch.no_grad():
        called = network.model.classify(network.features(images)).argmax(dim=1)
    # Its accuracy on all test images, within three standard errors of 1,000 of them.
    accuracy = card.scores["test"]["accuracy"]
    error = 3 * (accuracy * (1 - accuracy) / len(images)) ** 0.5
    assert (called == labels).double().mean().item() == pytest.approx(accuracy, abs=error)
    assert network_for(elsewhere, "folder-123456") is None


def test_features_are_the_same_beside_other_images_and_with_more_threads(store: Store) -> None:
    spaces = feature_spaces(store, "fashion_mnist_mini", (1, 28, 28))
    assert spaces is not None
    assert feature_spaces(store, "fashion_mnist_mini", (1, 32, 32)) is None
    images = torch.from_numpy(load_splits("fashion_mnist_mini", SplitConfig()).test.images[:250])
    first = spaces.trained.features(images)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(spaces.trained.features(images), first)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    kept = spaces.kept(spaces.trained, images)
    assert torch.equal(kept, first)
    (path,) = (store.mlruns / "features").iterdir()
    feature_network._RECENT.clear()
    asked = path.stat().st_mtime_ns
    assert torch.equal(spaces.kept(spaces.trained, images), first)
    assert path.stat().st_mtime_ns == asked
    feature_network._RECENT.clear()
    path.write_bytes(b"torn")
    assert torch.equal(spaces.kept(spaces.trained, images), first), "made again"
    assert not torch.equal(spaces.kept(spaces.untrained, images), first)


def test_mlflow_shows_curves_tables_and_pictures(home: Store, record: RunRecord) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{home.root}/mlruns/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'tiny_classifier'")
    (run,) = client.search_runs(
        [experiment.experiment_id], f"tags.`bench.run_key` = '{record.run_key}'"
    )
    assert run.data.params["latent_dim"] == "-"
    accuracy = record.scores["test"]["accuracy"]
    assert run.data.metrics["test/accuracy_percent"] == pytest.approx(100 * accuracy, rel=1e-5)
    assert len(client.get_metric_history(run.info.run_id, "val/accuracy")) == 2
    pictures = {Path(f.path).stem for f in client.list_artifacts(run.info.run_id, "figures")}
    assert {"confusion_matrix", "misclassified", "class_report", "reliability"} <= pictures
    assert not {"reconstructions", "latent_map", "score_histogram"} & pictures
    # MLflow looks tables up in the process's own store.
    with surroundings(f"sqlite:///{home.root}/mlruns/mlflow.db", experiment.experiment_id):
        table = client.load_table(experiment.experiment_id, "per_class.json", [run.info.run_id])
    arrays = read_arrays(home.records, record)
    assert table["f1"].tolist() == pytest.approx([row.f1 for row in class_scores(record, arrays)])
    view = experiment.tags["mlflow.sharedViewState.leaderboard"]
    assert "test/accuracy_percent" in view
    assert "code_size" not in view
    assert "latent_dim" not in view


def test_the_served_model_gives_probabilities_and_features(home: Store) -> None:
    with surroundings(f"sqlite:///{home.root}/mlruns/mlflow.db", "0"):
        served = mlflow.pyfunc.load_model(f"models:/{TRACK}@champion")
    champion = load_classifier(home.registry / "fashion_mnist_mini/tiny_classifier.classes10")
    images = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    with torch.no_grad():
        x = torch.from_numpy(images)
        expected = champion(x).softmax(1).numpy(), champion.features(x).numpy()
    np.testing.assert_allclose(served.predict(images), expected[0], atol=1e-6)
    features = served.predict(images, params={"output": "features"})
    np.testing.assert_allclose(features, expected[1], atol=1e-5)
    with pytest.raises(MlflowException, match="expected one of probabilities"):
        served.predict(images, params={"output": "code"})


def test_classes_are_told_in_words(home: Store, record: RunRecord) -> None:
    arrays = read_arrays(home.records, record)
    counts = arrays["confusion/test"]
    rows = class_scores(record, arrays)
    assert [row.name for row in rows] == list(record.class_names)
    assert [row.images for row in rows] == counts.sum(axis=1).tolist()
    worst = top_confusions(record, arrays)
    assert [row.images for row in worst] == sorted((row.images for row in worst), reverse=True)
    names = record.class_names
    for row in worst:
        assert counts[names.index(row.label), names.index(row.predicted)] == row.images
        assert row.label != row.predicted


def test_a_sweep_maximises_accuracy(home: Store) -> None:
    done = _bench(
        *("sweep", "--model", "mlp_classifier", "--trials", "2", "--workers", "1"),
        *("--protocol", str(home.root / "protocol.toml"), "--json"),
    )
    assert done.exit_code == 0, done.output
    tuned = [r for r in iter_records(home.records) if r.spec.recipe.startswith("tuned")]
    (study,) = (home.root / "mlruns/studies").iterdir()
    assert study.name == "tiny_classifier.mlp_classifier"
    assert len(tuned) in (0, 3), "the default recipe may win"
    import optuna

    storage = f"sqlite:///{home.root}/mlruns/optuna.db"
    found = optuna.load_study(study_name=study.name, storage=storage)
    assert found.direction.name == "MAXIMIZE"
    assert len(found.trials) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('selection_metric = "accuracy"', 'selection_metric = "macro_f1"'), "whole set of images"),
        (('"macro_f1",', '"mse",'), "mse does not score classification"),
        (("seeds = [0, 1, 2]", "seeds = [0]\nlatent_dims = [8]"), "classifiers have no code"),
        (("seeds = [0, 1, 2]", 'seeds = [0]\nmodels = ["fc_ae"]'), "fc_ae is for reconstruction"),
    ],
)
def test_mistaken_protocols_are_named(
    store: Store, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(PROTOCOL.replace(*change))
    done = _bench("run", "-p", str(path), "--dry-run")
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())


def test_mistaken_requests_are_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "right.toml"
    path.write_text(PROTOCOL)
    sized = _bench("run", "-p", str(path), "-d", "8")
    assert sized.exit_code == 2
    assert "leave --latent-dim and --native out" in " ".join(sized.output.split())
    path.write_text(PROTOCOL.replace("= 200", "= 10").replace("= 6900", "= 10"))
    np.savez(tmp_path / "plain.npz", images=np.full((40, 28, 28), 200, np.uint8))
    unlabelled = _bench("run", "-p", str(path), "--dataset", f"npz:{tmp_path / 'plain.npz'}")
    assert unlabelled.exit_code == 2
    assert "no classes to tell apart" in " ".join(unlabelled.output.split())


@pytest.mark.slow(minutes=0.5)
def test_the_figures_of_a_classifier_can_be_reproduced(store: Store) -> None:
    """A classifier has no code, so that neither a size nor the native one may be asked for."""
    protocol = dataclasses.replace(load_protocol("classifier_quick"), seeds=(42,))
    claim = PublishedFigure(protocol, Expected("mlp_classifier", "accuracy", 0.9, 0.01))
    (made,) = plans_of([claim], store, "cpu", 1)
    assert [(spec.model, spec.latent_dim, spec.seed) for spec in made.specs] == [
        ("mlp_classifier", None, 42)
    ]
    record = execute(made.specs[0], store, ignore_epochs)
    (found,) = findings([claim], store)
    assert (found.local, found.ours) == (True, record.scores["test"]["accuracy"])
