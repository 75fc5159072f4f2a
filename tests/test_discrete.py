"""Discrete codes: the quantiser, its codebook, and how a record and a table treat its bits."""

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor

from bench.benchmark.plan import Request, plan
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.core.track import Kind, Track
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import ledger_of, row_of
from bench.leaderboard.ranking import rank_table
from bench.leaderboard.significance import Significance
from bench.metrics.latent import active_fraction, dead_codes
from bench.models.discrete import Codebook, VectorQuantised
from bench.models.zoo import build_model
from bench.records.files import read_arrays

SHAPE = (1, 12, 16)


def _model(latent_dim: int | None = 5, **hyperparameters: object) -> VectorQuantised:
    torch.manual_seed(0)
    model = build_model("vq_vae", SHAPE, latent_dim, hyperparameters)
    assert isinstance(model, VectorQuantised)
    return model


def _images(count: int = 6) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_the_quantiser_finds_the_nearest_vector() -> None:
    torch.manual_seed(0)
    book, x = Codebook(512, 16), torch.randn(300, 16)
    expected = torch.cdist(x.double(), book.vectors.double()).argmin(dim=1)
    assert torch.equal(book.nearest(x), expected)
    assert len(expected.unique()) > 100


def test_the_codebook_moves_towards_the_mean_of_what_chose_it() -> None:
    """Against the paper's running means, vector by vector, where none is rare."""
    torch.manual_seed(0)
    book = Codebook(4, 3)
    book.counts.copy_(torch.tensor([2.0, 1.0, 3.0, 5.0]))
    book.sums.copy_(book.vectors * book.counts[:, None])
    before = (book.counts.clone(), book.sums.clone())
    x = torch.randn(50, 3)
    indices = book.nearest(x)
    book.learn(x, indices)
    for i in range(4):
        mine = x[indices == i]
        count = 0.99 * before[0][i] + 0.01 * len(mine)
        mean = (0.99 * before[1][i] + 0.01 * mine.sum(dim=0)) / count
        torch.testing.assert_close(book.vectors[i], mean, rtol=1e-3, atol=1e-4)


def test_a_vector_that_nothing_chooses_is_set_on_an_input() -> None:
    torch.manual_seed(0)
    book, x = Codebook(8, 3), 100 + torch.randn(20, 3)
    indices = book.nearest(x)
    unused = [i for i in range(8) if i not in indices.tolist()]
    assert len(unused) > 3
    book.learn(x, indices)
    assert torch.cdist(book.vectors[unused], x).amin(dim=1).max() < 0.05


@pytest.mark.parametrize("latent_dim", [5, None])
def test_training_and_scoring_decode_the_same_vectors(latent_dim: int | None) -> None:
    model, x = _model(latent_dim).eval(), _images()
    z = model.encode(x)
    assert z.shape == (6, 5 if latent_dim else 12)
    assert torch.equal(z, z.round())
    assert 0 <= z.min() <= z.max() <= 511
    torch.testing.assert_close(model(x).x_hat, model.decode(z))
    # What lies between and beyond the indices is brought back to them.
    assert torch.equal(model.decode(z + 0.3), model.decode(z))
    assert torch.isfinite(model.decode(z * 0 + 1e6)).all()


def test_gradients_pass_the_quantiser_unchanged() -> None:
    model, x = _model(commitment=0.0).eval(), _images()
    vectors = model.encoder(x)
    chosen = model.codebook.vectors[model.encode(x).long()].requires_grad_()
    loss = (model.decode_embedded(chosen) - x).square().mean()
    (through,) = torch.autograd.grad(loss, chosen)
    by_hand = torch.autograd.grad(vectors, list(model.encoder.parameters()), through)
    model.loss(x).total.backward()
    for parameter, expected in zip(model.encoder.parameters(), by_hand, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_the_commitment_is_the_squared_distance_to_the_chosen_vectors() -> None:
    model, x = _model(commitment=0.5).eval(), _images()
    distances = torch.cdist(model.encoder(x).flatten(0, 1), model.codebook.vectors).amin(dim=1)
    penalty = model.loss(x).penalty
    assert penalty is not None
    torch.testing.assert_close(penalty, 0.5 * distances.square().sum() / len(x) / (12 * 16))


def test_only_training_moves_the_codebook() -> None:
    model, x = _model(), _images()
    before = model.codebook.vectors.clone()
    model.eval().loss(x)
    assert torch.equal(model.codebook.vectors, before)
    model.train().loss(x)
    assert not torch.equal(model.codebook.vectors, before)


def test_a_code_is_counted_in_bits() -> None:
    assert _model(5).code_bits == 45
    assert build_model("vq_vae", (1, 28, 28)).code_bits == 49 * 9
    assert build_model("fc_ae", SHAPE, 5).code_bits is None


def test_dead_codes_and_zeros_are_counted() -> None:
    assert dead_codes(torch.tensor([[0.0, 3.0], [3.0, 511.0]]), 512) == 509
    assert dead_codes(torch.tensor([[0.0, 3.0]]), 2**40) == 2**40 - 2, "nothing is made per value"
    assert active_fraction(torch.tensor([[0.0, 3.0], [-1.0, 0.5]])) == 0.75


def test_a_discrete_code_has_a_track_of_its_own(tiny_protocol: str, store: Store) -> None:
    request = Request(load_protocol(tiny_protocol), ("vq_vae",), (3,), seeds=(0,))
    record = execute(plan(request, store).specs[0], store, ignore_epochs)
    assert str(record.track) == "b27"
    assert record.facts["code_size"] == 3
    assert record.facts["code_bits"] == 27
    assert record.facts["compression_ratio"] == pytest.approx(784 * 8 / 27)
    assert 0 <= record.facts["dead_codes"] < 512
    row = row_of(record)
    assert row.facts["dead_codes"] == record.facts["dead_codes"] > 0
    (cell,) = rank_table(ledger_of([row]), Significance(), {"mse": False}, ())
    assert f"{record.facts['dead_codes']:.3g} codes never used" in cell.badges
    arrays = read_arrays(store.records, record)
    assert arrays["samples/x_hat"].shape == (64, 1, 28, 28)
    assert record.facts["dead_codes"] >= 512 - 3 * len(arrays["codes/z"])
    # Neighbouring steps of an interpolation differ in single indices; its ends are the images'.
    steps = arrays["interpolation/x_hat"]
    assert (abs(steps[:, 0] - steps[:, -1]).max(axis=(1, 2, 3)) > 0).any()
    large = dataclasses.replace(record, facts={**record.facts, "code_bits": 784.0 * 9})
    assert large.track == Track("overcomplete")


def test_tables_order_and_name_the_tracks_of_bits() -> None:
    ordered = [Track.parse(name) for name in ("d3", "d128", "b27", "b288", "overcomplete")]
    shuffled = [ordered[i] for i in (4, 2, 0, 3, 1)]
    assert sorted(shuffled, key=lambda track: track.order) == ordered
    headings = [track.heading for track in (*ordered[1:3], ordered[-1], Track("classes", 10))]
    assert headings == [
        "Code size 128",
        "Discrete codes of 27 bits",
        "Codes as large as the images (not a bottleneck)",
        "Classifiers of 10 classes",
    ]
    words = [track.size_words for track in (*ordered[1:3], ordered[-1], Track("classes", 10))]
    assert words == ["128", "27 bits", "overcomplete", "10"]


KINDS = {
    "d16": Track("real", 16),
    "d0": Track("real"),
    "b288": Track("bits", 288),
    "overcomplete": Track("overcomplete"),
    "classes10": Track("classes", 10),
}


@pytest.mark.parametrize("spelled", KINDS)
def test_a_track_is_read_as_it_is_spelled(spelled: str) -> None:
    assert Track.parse(spelled) == KINDS[spelled]
    assert str(KINDS[spelled]) == spelled
    assert KINDS[spelled].on_size_axis == (spelled == "d16")


def test_every_kind_of_track_is_tested() -> None:
    assert {track.kind for track in KINDS.values()} == set(get_args(Kind))


@pytest.mark.parametrize(
    "junk",
    ["", "d", "D16", "16", "d016", "d-1", "d1.5", " d16", "d16\n", "d١٦", "x16", "overcomplete3"],
)
def test_what_is_no_track_is_refused(junk: str) -> None:
    with pytest.raises(ValueError, match="is no track; expected d16"):
        Track.parse(junk)


@pytest.mark.parametrize(("kind", "size"), [("real", -1), ("overcomplete", 3)])
def test_an_impossible_size_is_refused(kind: Kind, size: int) -> None:
    with pytest.raises(ValueError, match=f"{kind} cannot have size {size}"):
        Track(kind, size)
