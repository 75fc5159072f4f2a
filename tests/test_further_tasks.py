"""Further tasks: each measure against a second implementation, and the way into the boards."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tiny import TINY
from torch import Tensor

from bench.benchmark.checks import check_names
from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import EvaluationConfig, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store, shipped
from bench.core.tasks import FURTHER_TASKS
from bench.core.view import markdown
from bench.data import DATASETS, load_set, load_splits
from bench.evaluation.evaluate import Labelled, evaluate, seen_by
from bench.evaluation.scoring import score
from bench.execution.runner import build, execute, ignore_epochs
from bench.leaderboard.badges import TASK_BADGES, task_badges
from bench.leaderboard.ledger import Ledger, LedgerRow, ledger_of, row_of, score_columns
from bench.leaderboard.ranking import further_tables, rank_table
from bench.leaderboard.render import Board, sections
from bench.leaderboard.significance import ScoresOf, Significance, update
from bench.leaderboard.task_boards import task_table
from bench.metrics import METRICS, Need, Seen, chosen_metrics, headlines, metrics_of, seen_of
from bench.metrics.representation import STRENGTHS, assigned_accuracy, stratified
from bench.metrics.robustness import DAMAGES, chosen
from bench.models.base import ClosedFormAutoencoder
from bench.models.zoo import MODELS, build_model
from bench.records.files import read_arrays
from bench.registry.agreement import other_score
from bench.registry.results import record_of_row
from bench.registry.score_files import check_content, decoded, tensors_of
from bench.registry.verification import _of_training

CONFIG = EvaluationConfig()
ALL = ("representation", "robustness", "cost")


def _clouds(images: int, seed: int, size: int = 4, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Codes around the centre of their class, and the classes."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=drawn)
    centres = torch.randn(classes, size, generator=torch.Generator().manual_seed(0))
    scales = torch.logspace(-1, 1, size)
    return (centres[labels] + 0.7 * torch.randn(images, size, generator=drawn)) * scales, labels


def _seen(codes: Tensor, labels: Tensor, **more: object) -> Seen:
    given: dict[Need, Tensor] = {"codes": codes, "labels": labels}
    return seen_of(given, {name: lambda value=value: value for name, value in more.items()})  # type: ignore[misc]


@pytest.fixture(scope="module")
def parts() -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: _clouds(count, seed)
        for seed, (name, count) in enumerate(
            {"train": 1_500, "validation": 200, "test": 300}.items(), start=1
        )
    }


@pytest.fixture
def scored(parts: dict[str, tuple[Tensor, Tensor]]) -> Seen:
    train, validation = (_seen(*parts[name]) for name in ("train", "validation"))
    return _seen(*parts["test"], train=train, validation=validation)


def _value(name: str, seen: Seen) -> float:
    return METRICS[name].compute(seen, CONFIG).double().mean().item()


@pytest.mark.parametrize("count", [100, 1_000, 0])
def test_the_probe_is_scikit_learns(
    parts: dict[str, tuple[Tensor, Tensor]], scored: Seen, count: int
) -> None:
    (x, y), (v, w), (t, u) = (
        (codes.double().numpy(), labels.numpy()) for codes, labels in parts.values()
    )
    scaler = StandardScaler().fit(x)
    places = stratified(y, count) if count else np.arange(len(y))
    best, most = None, -1.0
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
        model.fit(scaler.transform(x)[places], y[places])
        if model.score(scaler.transform(v), w) > most:
            best, most = model, model.score(scaler.transform(v), w)
    assert best is not None
    name = f"probe_accuracy_{count}" if count else "probe_accuracy"
    hits = METRICS[name].compute(scored, CONFIG)
    assert hits.shape == (300,) and set(hits.tolist()) <= {0.0, 1.0}
    assert hits.mean().item() == pytest.approx(best.score(scaler.transform(t), u), abs=0.004)
    assert 0.4 < hits.mean() < 1


def test_the_strength_is_chosen_on_validation_alone(
    parts: dict[str, tuple[Tensor, Tensor]],
) -> None:
    """Validation images that only a weak, or only a strong penalty gets right choose it."""
    x, y = parts["train"]
    x = torch.cat([x, 9 * torch.randn(len(x), 30, generator=torch.Generator().manual_seed(1))], 1)
    places, scaler = stratified(y.numpy(), 100), StandardScaler().fit(x.double().numpy())
    codes = scaler.transform(x.double().numpy())
    strong, weak = (
        LogisticRegression(C=strength, max_iter=500, tol=1e-3).fit(codes[places], y[places])
        for strength in (STRENGTHS[0], STRENGTHS[-1])
    )
    right, other = (torch.from_numpy(each.predict(codes)) == y for each in (strong, weak))
    tied = torch.zeros(len(y), dtype=torch.bool)
    tied[places] = right[places] & other[places]
    cases = {STRENGTHS[0]: (right & ~other, tied), STRENGTHS[-1]: (other & ~right,)}
    for only, expected in ((only, strength) for strength, few in cases.items() for only in few):
        judged = _seen(x[only], y[only])
        own = _seen(x[:50], y[:50], train=_seen(x, y), validation=judged)
        METRICS["probe_accuracy_100"].compute(own, CONFIG)
        assert own.train.once("probe of 100 labels", pytest.fail).strength == expected


def test_stratified_subsets_keep_the_shares_of_classes_and_are_fixed() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen_places = stratified(labels, 100)
    assert np.bincount(labels[chosen_places]).tolist() == [60, 30, 10]
    assert len(set(chosen_places.tolist())) == 100
    np.testing.assert_array_equal(chosen_places, stratified(labels, 100))


def test_a_subset_of_labels_that_there_are_not_has_no_probe() -> None:
    codes, labels = _clouds(500, 1)
    own = _seen(codes, labels, train=_seen(codes, labels), validation=None)
    assert METRICS["probe_accuracy_1000"].compute(own, CONFIG).isnan()
    assert not METRICS["probe_accuracy_100"].compute(own, CONFIG).isnan().any()


def test_a_collapsed_code_has_a_value_by_every_measure(
    parts: dict[str, tuple[Tensor, Tensor]],
) -> None:
    """Training may end so, as that of `fc_ae` with few numbers does, and is scored all the same."""
    train, validation, test = (
        _seen(torch.full_like(codes, 0.3), labels) for codes, labels in parts.values()
    )
    own = _seen(
        test.codes,
        test.labels,
        images=torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        train=train,
        validation=validation,
    )
    labels = parts["train"][1].numpy()
    for count in (100, 1_000, 0):
        chosen = labels[stratified(labels, count)] if count else labels
        frequent = int(np.bincount(chosen).argmax())
        name = f"probe_accuracy_{count}" if count else "probe_accuracy"
        assert _value(name, own) == (parts["test"][1] == frequent).double().mean().item()
    measures = [name for name, row in METRICS.items() if row.task == "representation"]
    values = {name: _value(name, own) for name in measures if name != "kl_per_dimension"}
    assert all(np.isfinite(value) for value in values.values()), values
    assert values["active_units"] == values["participation_ratio"] == 0


def test_a_probe_that_does_not_converge_says_so(
    parts: dict[str, tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def own() -> Seen:
        train, validation = (_seen(*parts[name]) for name in ("train", "validation"))
        return _seen(*parts["test"], train=train, validation=validation)

    assert _value("probe_converged", own()) == 1
    monkeypatch.setattr("bench.metrics.representation.MOST_STEPS", 1)
    assert _value("probe_converged", own()) == 0


@pytest.mark.parametrize("name", ["knn_accuracy", "knn_accuracy_raw"])
def test_neighbours_of_raw_and_standardised_codes(
    parts: dict[str, tuple[Tensor, Tensor]], scored: Seen, name: str
) -> None:
    (x, y), _, (t, u) = (
        (codes.double().numpy(), labels.numpy()) for codes, labels in parts.values()
    )
    scaler = StandardScaler(with_mean=name == "knn_accuracy", with_std=name == "knn_accuracy").fit(
        x
    )
    model = KNeighborsClassifier(5).fit(scaler.transform(x), y)
    # Votes of two against two go to the nearest here, to the lower class there.
    assert _value(name, scored) == pytest.approx(model.score(scaler.transform(t), u), abs=0.02)


def test_raw_and_standardised_neighbours_differ(scored: Seen) -> None:
    assert _value("knn_accuracy", scored) != _value("knn_accuracy_raw", scored)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def test_clusters_against_formulas_in_numpy(
    parts: dict[str, tuple[Tensor, Tensor]], scored: Seen
) -> None:
    codes, labels = (part.numpy() for part in parts["test"])
    clusters = KMeans(5, n_init=10, random_state=0).fit_predict(codes.astype(np.float64))
    table = np.zeros((5, 5))
    np.add.at(table, (clusters, labels), 1)
    total = _entropy(table.sum(0)) + _entropy(table.sum(1))
    nmi = (total - _entropy(table.ravel())) / (total / 2)
    assert _value("kmeans_nmi", scored) == pytest.approx(nmi, abs=1e-6)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    expected = pairs(table.sum(0)) * pairs(table.sum(1)) / pairs(np.array([table.sum()]))
    most = (pairs(table.sum(0)) + pairs(table.sum(1))) / 2
    ari = (pairs(table) - expected) / (most - expected)
    assert _value("kmeans_ari", scored) == pytest.approx(ari, abs=1e-6)
    best = max(sum(table[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(5)))
    assert _value("kmeans_accuracy", scored) == pytest.approx(best / len(labels), abs=1e-6)


def test_clusters_are_assigned_one_to_one() -> None:
    """Two clusters in one class: only one of them may have it."""
    assert assigned_accuracy(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 1, 1, 1])) == 3 / 5


def test_trustworthiness_by_hand(parts: dict[str, tuple[Tensor, Tensor]]) -> None:
    codes = parts["test"][0][:60]
    pixels = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    far = torch.cdist(pixels.flatten(1).double(), pixels.flatten(1).double()).numpy()
    near = torch.cdist(codes.double(), codes.double()).numpy()
    lost = 0.0
    for i in range(60):
        rank = {int(j): place for place, j in enumerate(np.argsort(far[i]))}
        lost += sum(max(0, rank[int(j)] - 5) for j in np.argsort(near[i])[1:6])
    expected = 1 - 2 / (60 * 5 * (2 * 60 - 3 * 5 - 1)) * lost
    given: dict[Need, Tensor] = {"codes": codes, "images": pixels}
    assert _value("trustworthiness", seen_of(given)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("images", "size"), [(200, 6), (20, 50)])
def test_the_participation_ratio_counts_directions(images: int, size: int) -> None:
    codes = torch.randn(images, size, generator=torch.Generator().manual_seed(1))
    values = np.linalg.eigvalsh(np.cov(codes.double().numpy().T))
    expected = values.sum() ** 2 / (values**2).sum()
    seen = seen_of({"codes": codes})
    assert _value("participation_ratio", seen) == pytest.approx(expected, rel=1e-6)
    flat = torch.zeros(images, size)
    assert _value("participation_ratio", seen_of({"codes": flat})) == 0


def test_kl_and_active_units_of_a_variational_code() -> None:
    torch.manual_seed(0)
    model = build_model("vae", (1, 12, 12), 6)
    data = Labelled(
        torch.randint(256, (50, 1, 12, 12), dtype=torch.uint8), torch.zeros(50).long(), False
    )
    seen = seen_by(model, data)
    mean, log_variance = model.posterior_images(data.images / 255)
    assert log_variance is not None
    code = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0))
    assert _value("kl_per_dimension", seen) == pytest.approx(expected.mean().item(), rel=1e-5)
    units = int((mean.var(0, correction=0) > 0.01).sum())
    assert _value("active_units", seen) == units
    assert "kl" not in seen_by(build_model("plain_ae", (1, 12, 12), 6), data).offers


def test_every_variational_variant_states_its_effective_beta() -> None:
    for row in MODELS.values():
        if row.kind == "autoencoder" and getattr(row.build.load(), "variational", False):
            assert "beta" in row.hyperparameters, row.id


def _pixels(count: int) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", DAMAGES)
def test_damages_are_as_strong_as_they_say(name: str) -> None:
    images = 0.2 + 0.6 * _pixels(400)
    damage, strength = DAMAGES[name]
    found = damage(images, np.arange(400), strength)
    if name.startswith("gaussian"):
        assert found.min() >= 0 and found.max() <= 1
        noise = (found - images)[(images > 0.45) & (images < 0.55)]
        assert noise.abs().median().item() == pytest.approx(0.6745 * strength, rel=0.1)
    else:
        black, white = ((found == value).float().mean().item() for value in (0, 1))
        assert black + white == pytest.approx(strength, abs=0.01)
        both = name.startswith("salt")
        assert white == pytest.approx(strength / 2 if both else 0, abs=0.01)
        assert torch.equal(found[(found != 0) & (found != 1)], images[(found != 0) & (found != 1)])


@pytest.mark.parametrize("name", DAMAGES)
def test_the_damage_of_an_image_does_not_depend_on_others(name: str) -> None:
    images = _pixels(30)
    damage, strength = DAMAGES[name]
    together = damage(images, np.arange(30), strength)
    alone = damage(images[7:9], np.array([7, 8]), strength)
    assert torch.equal(together[7:9], alone)
    assert not torch.equal(together[0] != images[0], together[1] != images[1]) or "gauss" in name


def test_psnr_is_against_the_clean_image() -> None:
    """A model that copies keeps the damage; one that knows the clean images has no error."""
    clean = _pixels(40)
    given: dict[Need, Tensor] = {"images": clean}
    copies = seen_of(given, {"reconstruct": lambda: lambda x: x})
    knows = seen_of(given, {"reconstruct": lambda: lambda x: clean})
    for name, (damage, strength) in DAMAGES.items():
        damaged = damage(clean, np.arange(40), strength).numpy()
        errors = ((damaged - clean.numpy()) ** 2).mean((1, 2, 3))
        found = METRICS[f"psnr_{name}"].compute(copies, CONFIG).numpy()
        np.testing.assert_allclose(found, -10 * np.log10(errors), rtol=1e-4)
        assert METRICS[f"psnr_{name}"].compute(knows, CONFIG).eq(100).all()
    assert {f"psnr_{name}" for name in DAMAGES} == set(metrics_of("robustness")) - {"ood_auroc"}


def test_of_a_large_part_the_same_images_are_damaged() -> None:
    assert len(chosen(400)) == 400
    places = chosen(3_000)
    assert len(set(places.tolist())) == 500 and places.max() > 2_500
    np.testing.assert_array_equal(places, chosen(3_000))


def _foreign(own: float, foreign: float, spread: float) -> float:
    """AUROC where own images are missed by about `own`, foreign ones by about `foreign`."""
    drawn = torch.Generator().manual_seed(0)
    x = _pixels(200)
    error = own + spread * torch.rand(200, 1, 1, 1, generator=drawn)
    others = _pixels(150)
    wrong = foreign + spread * torch.rand(150, 1, 1, 1, generator=drawn)
    given: dict[Need, Tensor] = {"images": x, "reconstructions": x + error, "others": others}
    rest = {"reconstruct": lambda: lambda y: y + wrong, "train": lambda: seen_of({})}
    found = _value("ood_auroc", seen_of(given, rest))
    e, f = (each.square().flatten().double().numpy() for each in (error, wrong))
    by_hand = (f[:, None] > e).mean() + (f[:, None] == e).mean() / 2
    assert found == pytest.approx(by_hand, abs=1e-3)
    return found


def test_auroc_is_the_probability_of_a_larger_error_of_a_foreign_image() -> None:
    assert _foreign(0.1, 0.9, 0.1) == 1
    assert _foreign(0.9, 0.1, 0.1) == 0
    assert 0.5 < _foreign(0.1, 0.2, 0.4) < 0.99


def test_known_sets_have_a_foreign_one_of_their_shape() -> None:
    for name, other in {"fashion_mnist": "mnist_mini", "mnist": "fashion_mnist_mini"}.items():
        for row in (DATASETS[name], DATASETS[f"{name}_mini"]):
            assert row.foreign == other and DATASETS[other].bundled
            assert DATASETS[other].image_shape == row.image_shape


def test_costs_are_counted() -> None:
    model = build_model("fc_ae", (1, 12, 12), 6)
    data = Labelled(torch.zeros(20, 1, 12, 12, dtype=torch.uint8), torch.zeros(20).long())
    found = {}
    rest: dict[Need, Callable[[], object]] = {"model": lambda: model}
    seen = seen_of({"images": data.images / 255}, rest)  # type: ignore[arg-type]
    for name in metrics_of("cost"):
        found[name] = METRICS[name].compute(seen, CONFIG).item()
    weights = 4 * sum(p.numel() for p in model.state_dict().values())
    assert found["weight_bytes"] == weights
    # Images and reconstructions of 256 are alive at the end, with the weights.
    least = weights + 2 * 256 * 144 * 4
    assert least <= found["peak_memory"] < least + 256 * 4 * 4_000
    again = METRICS["peak_memory"].compute(seen, CONFIG).item()
    assert found["peak_memory"] == again, "memory is counted, not measured"
    assert found["encoding_speed_256"] > found["encoding_speed_1"] > 0


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    from bench.metrics.cost import LiveBytes

    start = torch.zeros(1000)
    with LiveBytes() as live:
        for _ in range(5):
            middle = start + 1
            end = middle.view(10, 100) * 2
            del middle, end
    assert live.peak == 2 * 4000 and live.now == 0


def test_further_tasks_and_their_metrics_fit_together() -> None:
    for task in ALL:
        assert metrics_of(task)
        headline = FURTHER_TASKS[task].headline
        assert not headline or METRICS[headline].task == task
    for metric in METRICS.values():
        assert not metric.further or (metric.formula and metric.source and metric.title)
    assert set(TASK_BADGES) <= set(FURTHER_TASKS)


def test_a_protocol_switches_all_metrics_of_a_task_on() -> None:
    config = dataclasses.replace(CONFIG, tasks=("robustness",))
    assert chosen_metrics(config) == (*CONFIG.metrics, *metrics_of("robustness"))
    listed = dataclasses.replace(config, metrics=("mse", "ood_auroc"))
    assert sorted(chosen_metrics(listed)) == sorted(["mse", *metrics_of("robustness")])


def _protocol(tmp_path: Path, tasks: str, name: str = "tasks") -> str:
    path = tmp_path / f"{name}.toml"
    text = TINY.replace('name = "tiny"', f'name = "{name}"')
    path.write_text(
        text.replace('"fc_ae"]', '"fc_ae", "vae"]') + f"[evaluation]\ntasks = {tasks}\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ('["robust"]', "evaluation.tasks.*'representation' or 'generation'"),
        ('["cost", "cost"]', "evaluation.tasks: every value may be listed once"),
    ],
)
def test_tasks_that_are_none_are_refused(tmp_path: Path, tasks: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_protocol(_protocol(tmp_path, tasks))


def test_classifiers_have_no_such_tasks() -> None:
    protocol = load_protocol("classifier_quick")
    config = dataclasses.replace(protocol.evaluation, tasks=("cost",))
    with pytest.raises(BadInput, match="cost measures autoencoders, not the models of classific"):
        check_names(dataclasses.replace(protocol, evaluation=config))


def _spec(protocol: str, store: Store, model: str, seed: int = 0) -> RunSpec:
    return plan(Request(load_protocol(protocol), (model,), seeds=(seed,)), store).specs[0]


def test_switching_tasks_on_scores_old_weights_and_encodes_each_image_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = execute(_spec(_protocol(tmp_path, "[]", "plain"), store, "vae"), store, ignore_epochs)
    spec = _spec(_protocol(tmp_path, str(list(ALL)).replace("'", '"')), store, "vae")
    assert spec.run_key == first.run_key and spec.evaluation_digest != first.evaluation_digest
    epochs: list[object] = []
    again = execute(spec, store, lambda values: bool(epochs.append(values)))
    assert not epochs and again.weights_sha256 == first.weights_sha256
    assert again.scores["val"]["mse"] == pytest.approx(first.scores["val"]["mse"], rel=1e-6)
    assert "weight_bytes" in again.scores["test"] and "weight_bytes" not in again.scores["val"]
    missing = {"probe_accuracy_1000"}  # of 900 training images
    wanted = set(metrics_of("representation")) | set(metrics_of("robustness"))
    assert wanted - set(again.scores["val"]) == wanted - set(again.scores["test"])
    assert wanted - set(again.scores["val"]) <= missing

    splits = load_splits(spec.dataset, spec.split)
    model, seen = build(spec, splits), []
    posterior = model.posterior
    monkeypatch.setattr(model, "posterior", lambda x: (seen.append(len(x)), posterior(x))[1])
    monkeypatch.setattr("bench.evaluation.scoring.build_gallery", lambda *_: {})
    both = dataclasses.replace(spec.evaluation, tasks=("representation",))
    score(model, dataclasses.replace(spec, evaluation=both), splits)
    assert sum(seen) == sum(
        map(len, (splits.train.labels, splits.validation.labels, splits.test.labels))
    )


def test_threads_and_other_measures_change_no_number(
    parts: dict[str, tuple[Tensor, Tensor]],
) -> None:
    def measured() -> dict[str, float]:
        train, validation = (_seen(*parts[name]) for name in ("train", "validation"))
        own = _seen(*parts["test"], train=train, validation=validation)
        names = [n for n, m in metrics_of("representation").items() if m.needs <= own.offers]
        return {name: _value(name, own) for name in names}

    with threadpool_limits(1):
        one = measured()
    with threadpool_limits(2):
        two = measured()
    assert one == two and len(one) > 8
    np.random.seed(5)
    torch.manual_seed(5)
    assert measured() == one


def test_images_without_classes_get_what_needs_none() -> None:
    model = build_model("plain_ae", (1, 12, 12), 6)
    drawn = torch.randint(256, (60, 1, 12, 12), dtype=torch.uint8)
    data = Labelled(drawn, torch.zeros(60).long(), labelled=False)
    train = seen_by(model, data)
    config = EvaluationConfig(metrics=("mse",), tasks=ALL)
    found = evaluate(model, data, config, lambda: train)
    got = set(found.whole) | set(found.scores)
    assert {"trustworthiness", "active_units", "participation_ratio", "psnr_masking_10"} <= got
    assert not got & {"probe_accuracy", "knn_accuracy", "kmeans_nmi", "ood_auroc"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, ScoresOf, Store]:
    """A ledger of three variants with all tasks, and their scores per image."""
    folder = tmp_path_factory.mktemp("measured")
    store = Store(folder)
    protocol = load_protocol(_protocol(folder, '["representation", "robustness", "cost"]'))
    protocol = dataclasses.replace(protocol, seeds=(0, 1, 2), models=("mean_image", "pca", "fc_ae"))
    records = [execute(spec, store, ignore_epochs) for spec in plan(Request(protocol), store).specs]
    rows = {row.row_digest: record for record in records for row in [row_of(record)]}

    def scores_of(row: LedgerRow, part: str, metric: str = "") -> np.ndarray | None:
        arrays = read_arrays(store.records, rows[row.row_digest])
        return arrays.get(f"{part}/{metric or row.selection_metric}")

    return ledger_of(map(row_of, records)), scores_of, store


def _boards(measured: tuple[Ledger, ScoresOf, Store]) -> Board:
    ledger, scores_of, _ = measured
    known = update(Significance(), ledger, scores_of)
    directions = {name: metric.higher_is_better for name, metric in METRICS.items()}
    table = rank_table(ledger, known, directions, score_columns(ledger))
    return Board(table, 0, (), {}, further=further_tables(ledger, table, known))


def test_each_task_is_a_board_over_the_same_rows(
    measured: tuple[Ledger, ScoresOf, Store],
) -> None:
    board = _boards(measured)
    assert list(board.further) == list(ALL)
    for task, cells in board.further.items():
        assert {cell.row for cell in cells} == {"mean_image", "pca", "fc_ae"}, task
    ranks = {cell.row: cell.ranks for cell in board.further["robustness"]}
    assert ranks["pca"] == (1, 1) and ranks["mean_image"] == (2, 3) == ranks["fc_ae"]
    code = {cell.row: cell for cell in board.further["representation"]}
    assert code["pca"].ranks == (1, 1) and code["fc_ae"].ranks == (2, 2)
    assert code["mean_image"].ranks is None
    assert code["mean_image"].why_unranked == "it has no code"
    assert all(cell.ranks is None for cell in board.further["cost"])
    assert [cell.row for cell in board.further["cost"]] == [cell.row for cell in board.cells]


def test_the_page_says_how_a_board_is_ordered_and_what_is_left_out(
    measured: tuple[Ledger, ScoresOf, Store],
) -> None:
    text = "\n".join(markdown(section) for section in sections(_boards(measured)))
    assert (
        "Ordered by PSNR after Gaussian noise 0.2 on validation; ranges of ranks from images"
        in text
    )
    assert "Left out, since this needs a variational code: KL per dimension." in text
    assert "Left out, since this needs more images" not in text.partition("### Robustness")[2]
    assert "Costs are not compared" in text and "test k-means NMI" in text
    ranking = text.partition("### Representation")[0]
    assert "test MSE" in ranking and "k-means" not in ranking and "Gaussian noise" not in ranking


def test_tables_show_the_most_important_measures_and_whole_ones_all(
    measured: tuple[Ledger, ScoresOf, Store],
) -> None:
    cells = _boards(measured).further["robustness"]
    few = [column.title for column in task_table("robustness", cells).columns]
    every = [column.title for column in task_table("robustness", cells, whole=True).columns]
    assert [title for title in every if title in few] == few, "the same order"
    assert "test PSNR after masking 25 % (dB)" in few
    assert set(every) - set(few) == {
        f"test {METRICS[name].title} (dB)"
        for name in metrics_of("robustness")
        if name.startswith("psnr") and not name.endswith(("_gaussian_20", "_25"))
    }


def test_every_headline_is_shown_and_every_board_fits_a_terminal() -> None:
    for task in FURTHER_TASKS.values():
        found = metrics_of(task.id).values()
        assert 3 <= sum(bool(metric.short) for metric in found) <= 5
        assert not any(metric.short and (metric.detail or metric.beside) for metric in found)
        assert not task.headline or METRICS[task.headline].short


def test_below_the_rows_stands_what_they_are_compared_with(
    measured: tuple[Ledger, ScoresOf, Store],
) -> None:
    ledger = measured[0]
    values = {
        f"{part}_{name}": value
        for part in ("val", "test")
        for name, value in {
            "fcd_mixture": 5.0,
            "fcd_prior": 7.0,
            "recall_mixture": 0.4,
            "fcd_real": 0.25 if part == "test" else 0.5,
            "recall_real": 0.9,
            "fcd_mean_image": 54.0,
        }.items()
    }
    ledger = _with(ledger, **values)
    directions = {name: metric.higher_is_better for name, metric in METRICS.items()}
    table = rank_table(ledger, Significance(), directions, score_columns(ledger))
    cells = further_tables(ledger, table, Significance())["generation"]
    found = task_table("generation", cells)
    rows = [dict(zip((c.title for c in found.columns), row, strict=True)) for row in found.rows]
    real, mean = rows[len(cells) :]
    assert (real["variant"], mean["variant"]) == ("real images", "the mean image")
    for sampler in ("10 Gaussians", "N(0, I)"):
        assert real[f"test FCD, {sampler}"] == "0.25", "stands beside every sampler"
        assert mean[f"test FCD, {sampler}"] == "54.00"
    assert real["validation FCD, 10 Gaussians"] == "0.50"
    assert (real["test recall, 10 Gaussians"], mean["test recall, 10 Gaussians"]) == ("0.900", "–")
    assert not any("real images" in title for title in rows[0])


def test_one_value_of_a_set_is_compared_by_seeds_alone(
    measured: tuple[Ledger, ScoresOf, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dataclasses.replace(FURTHER_TASKS["representation"], headline="trustworthiness")
    monkeypatch.setitem(FURTHER_TASKS, "representation", task)  # type: ignore[arg-type]
    board = _boards(measured)
    cells = {cell.row: cell for cell in board.further["representation"]}
    assert cells["pca"].interval[0] == cells["pca"].interval[1], "solved: no seed changes it"
    assert cells["fc_ae"].interval[0] < cells["fc_ae"].interval[1]
    assert cells["pca"].first_in_halves is None
    text = "\n".join(markdown(section) for section in sections(board))
    assert "one value of all images: ranges of ranks from seeds alone" in text


def _with(ledger: Ledger, **values: float) -> Ledger:
    return tuple(
        dataclasses.replace(row, scores={**row.scores, **values}) if row.model == "pca" else row
        for row in ledger
    )


@pytest.mark.parametrize(
    ("task", "column", "bad", "good", "badge"),
    [
        ("robustness", "val_ood_auroc", 0.49, 0.5, "AUROC below .5"),
        ("representation", "val_probe_converged", 0.99, 1.0, "probe not converged"),
    ],
)
def test_sick_rows_wear_the_badge_of_the_task(
    measured: tuple[Ledger, ScoresOf, Store],
    task: str,
    column: str,
    bad: float,
    good: float,
    badge: str,
) -> None:
    for value, expected in ((bad, {"pca"}), (good, set())):
        ledger = _with(measured[0], **{column: value})
        directions = {name: metric.higher_is_better for name, metric in METRICS.items()}
        table = rank_table(ledger, Significance(), directions, score_columns(ledger))
        cells = further_tables(ledger, table, Significance())[task]
        assert {cell.row for cell in cells if badge in cell.badges} == expected
        assert not any(badge in cell.badges for cell in table)


@pytest.mark.parametrize(("image", "badges"), [("black", ["AUROC below .5"]), ("mean", [])])
def test_a_model_with_larger_errors_on_its_own_images_wears_the_badge(
    tmp_path: Path, store: Store, image: str, badges: list[str]
) -> None:
    """Digits have fewer bright pixels than clothes: black is nearer to foreign images."""
    spec = _spec(_protocol(tmp_path, '["robustness"]'), store, "mean_image")
    splits = load_splits(spec.dataset, spec.split)
    model = build(spec, splits)
    assert isinstance(model, ClosedFormAutoencoder)
    known = splits.train.images
    model.fit(torch.from_numpy(known if image == "mean" else np.zeros_like(known)))
    means = score(model, spec, splits).means()["val"]
    cell = SimpleNamespace(mean=lambda column: means[column.removeprefix("val_")])
    assert list(task_badges("robustness", cell)) == badges  # type: ignore[arg-type]


def test_costs_are_not_verified(measured: tuple[Ledger, ScoresOf, Store]) -> None:
    """Times and even bytes may differ where weights are scored again; other scores may not."""
    written = {"test": {"mse": 0.1, "encoding_speed_1": 100.0}}
    again = {"test": {"mse": 0.1, "encoding_speed_1": 1.0}}
    assert not other_score(written, again, _of_training)
    other = {"test": {"mse": 0.2, "encoding_speed_1": 100.0}}
    assert other_score(written, other, _of_training)


def test_the_registry_keeps_scores_per_image_of_headlines(
    measured: tuple[Ledger, ScoresOf, Store],
) -> None:
    ledger, scores_of, store = measured
    assert headlines() == ("probe_accuracy", "psnr_gaussian_20")
    row = next(row for row in ledger if row.model == "pca")
    record = record_of_row(store, row)
    assert record is not None
    found = tensors_of(row, record, read_arrays(store.records, record))
    for metric in headlines():
        key = f"0/validation/{metric}"
        exact = scores_of(row, "validation", metric)
        np.testing.assert_allclose(decoded(found[key], found[f"{key}/scale"]), exact, rtol=1e-3)
    check_content(found, [row], "here", "mend")
    changed = {**found, "0/validation/probe_accuracy": 0 * found["0/validation/probe_accuracy"]}
    with pytest.raises(CheckFailed, match="mean validation probe_accuracy score of seed 0"):
        check_content(changed, [row], "here", "mend")


@pytest.mark.slow(minutes=2)
@pytest.mark.parametrize(("size", "expected"), [(16, 0.836), (64, 0.859)])
def test_pca_codes_of_the_full_set_are_as_good_as_published(size: int, expected: float) -> None:
    """5 nearest of all 60,000 training codes, raw, as scikit-learn's PCA and classifier find."""
    images = load_set("fashion_mnist")
    train, test = images.parts["train"], images.parts["test"]
    model = build_model("pca", (1, 28, 28), size)
    model.fit(torch.from_numpy(train.images))  # type: ignore[operator]
    fitted, own = (
        seen_by(model, Labelled(torch.from_numpy(part.images), torch.from_numpy(part.labels)))
        for part in (train, test)
    )
    scored = _seen(own.codes, own.labels, train=fitted)
    assert _value("knn_accuracy_raw", scored) == pytest.approx(expected, abs=0.003)


def test_the_committed_boards_show_damaged_images() -> None:
    page = (shipped().registry / "README.md").read_text()
    for board in ("fashion_mnist_mini/quick.d8", "fashion_mnist_mini/quick.d32"):
        assert (shipped().registry / f"{board}.error_under_damage.png").exists()
        assert f"]({board}.error_under_damage.png)" in page
