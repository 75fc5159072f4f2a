"""The contract that every row of MODELS keeps, at two sizes, grey and colour."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.core.errors import BadInput
from bench.core.protocol import Scalar, TrainConfig
from bench.core.spec import Choice, FloatRange, IntRange, SearchRange
from bench.data import load_set
from bench.execution import operations
from bench.execution.operations import multiply_adds
from bench.models.base import Autoencoder, ClosedFormAutoencoder
from bench.models.contract import (
    RULES,
    Candidate,
    candidates,
    check,
    code_size,
    shapes_and_ranges,
)
from bench.models.rows import ORIGINS
from bench.models.zoo import MODELS, build_model, build_network, checked_hyperparameters

SHAPES = [(1, 28, 28), (3, 32, 32)]
RECTANGLE = (1, 12, 20)
PADDED = [(1, 8, 8), (1, 9, 13), (3, 30, 31)]
PRINTED_PARAMETERS = {
    "fc_ae": 218_192,
    "deep_ae": 1_149_520,
    "cnn_ae": 9_569,
    "vae": 667_248,
    "conv_baseline_ae": 1_621_889,
    "conv_modified_ae": 1_926_657,
    "tapered_ae": 223_955,
    "conv_bn_ae": 46_849,
    "sparse_ae": 218_192,
}
NATIVE_CODES = {
    "fc_ae": 64,
    "deep_ae": 64,
    "cnn_ae": 1568,
    "vae": 32,
    "conv_baseline_ae": 128,
    "conv_modified_ae": 128,
    "tapered_ae": 3,
    "conv_bn_ae": 1600,
    "sparse_ae": 64,
}

Shape = tuple[int, int, int]


def _images(shape: Shape, count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def _ready(name: str, shape: Shape, latent_dim: int | None) -> Autoencoder:
    torch.manual_seed(0)
    model = build_model(name, shape, latent_dim)
    if isinstance(model, ClosedFormAutoencoder):
        model.fit(_images(shape, 40))
    return model.eval()


AUTOENCODERS = [name for name, row in MODELS.items() if row.kind == "autoencoder"]
every_variant = pytest.mark.parametrize("name", AUTOENCODERS)
every_row = pytest.mark.parametrize("name", MODELS)
every_shape = pytest.mark.parametrize("shape", [*SHAPES, RECTANGLE, *PADDED], ids=str)
every_size = pytest.mark.parametrize("latent_dim", [3, 16, None], ids=str)


@functools.cache
def _candidates(name: str) -> list[Candidate]:
    part = load_set("fashion_mnist_mini").parts["train"]
    images, labels = (torch.from_numpy(each[:64].copy()) for each in part)
    return candidates(name, images, labels)


@every_row
def test_every_rule_of_the_contract_is_kept(name: str) -> None:
    findings = list(check(_candidates(name)))
    assert [finding.rule for finding in findings] == list(RULES)
    assert [finding for finding in findings if finding.missing] == []


@every_variant
@every_shape
@every_size
def test_every_size_has_its_shapes_and_code(
    name: str, shape: Shape, latent_dim: int | None
) -> None:
    given = Candidate(name, latent_dim, _images(shape, 40))
    assert shapes_and_ranges(given) == ""
    assert code_size(given) == ""


@pytest.mark.filterwarnings("ignore:TF32")
@every_row
def test_multiply_adds_are_those_of_torchs_own_counter(name: str) -> None:
    size = 8 if MODELS[name].kind == "autoencoder" else None
    model = build_network(name, (1, 28, 28), size, {}, 10)
    # Torch's counter leaves out an LSTM that runs as one kernel.
    with torch.backends.mkldnn.flags(enabled=name != "rnn_ae"):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = torch.zeros(1, *model.image_shape)
            model.eval().answers(x, torch.zeros(1, dtype=torch.int64))
        assert multiply_adds(model) == counter.get_total_flops() / 2


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("fused", [True, False], ids=["one kernel", "products"])
def test_multiply_adds_count_an_lstm_however_it_runs(fused: bool) -> None:
    """By hand: 28 rows, four gates; natively from 28 numbers to 128 and back, else 128 to 128."""
    encoder = 28 * 4 * 128 * (28 + 128)
    native = encoder + 28 * 4 * 28 * (128 + 28)
    bottleneck = encoder + 2 * 128 * 8 + 28 * 4 * 128 * (128 + 128) + 28 * 128 * 28
    with torch.backends.mkldnn.flags(enabled=fused):
        assert multiply_adds(build_network("rnn_ae", (1, 28, 28))) == native
        assert multiply_adds(build_network("rnn_ae", (1, 28, 28), 8)) == bottleneck


@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 2)])
@pytest.mark.parametrize(("kernel", "place"), [("_cudnn_rnn", 1), ("_lstm_mps", 2)])
def test_multiply_adds_of_an_lstm_on_a_gpu_are_those_of_its_matrices(
    kernel: str, place: int, layers: int, directions: int
) -> None:
    lstm = nn.LSTM(5, 3, num_layers=layers, bidirectional=directions == 2)
    arguments: list[object] = [torch.zeros(7, 2, 5), None, None]
    arguments[place] = list(lstm.parameters())
    by_hand = directions * 4 * 3 * (5 + 3)
    by_hand += (layers - 1) * directions * 4 * 3 * (directions * 3 + 3)
    counted = operations._COUNTED[getattr(torch.ops.aten, kernel)]
    assert counted(tuple(arguments), torch.zeros(0)) == 7 * 2 * by_hand


@pytest.mark.parametrize(("name", "parameters"), PRINTED_PARAMETERS.items())
def test_parameter_counts_are_those_that_the_origins_print(name: str, parameters: int) -> None:
    model = build_model(name, (1, 28, 28))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.code_size == NATIVE_CODES[name]


@every_row
def test_a_row_is_complete(name: str) -> None:
    row = MODELS[name]
    assert row.line
    assert row.origin in ORIGINS
    assert row.revision >= 1
    recipe = set(TrainConfig.__dataclass_fields__)
    for key, space in row.search.items():
        assert key in recipe | set(row.hyperparameters), key
        match space:
            case FloatRange(low, high) | IntRange(low, high):
                assert 0 < low < high
            case Choice(values):
                assert len(values) > 1
    # A closed form has nothing to search; what is trained has something.
    assert bool(row.search) != row.closed_form


@every_row
def test_what_a_row_says_of_its_class_is_true(name: str) -> None:
    row = MODELS[name]
    model = build_network(name, (1, 28, 28), classes=10)
    assert row.native_parameters == model.learned_numbers
    assert row.closed_form == isinstance(model, ClosedFormAutoencoder)
    if isinstance(model, Autoencoder):
        said = row.native_code_size if row.native_latent_dim is None else row.native_latent_dim
        assert said == model.code_size
        assert row.value_range == model.value_range
    else:
        assert row.native_code_size is None and row.native_latent_dim is None


@every_row
def test_every_hyperparameter_has_its_allowed_values(name: str) -> None:
    row = MODELS[name]
    assert set(row.allowed) == set(row.hyperparameters)
    assert checked_hyperparameters(name, row.hyperparameters) == row.hyperparameters
    for key, allowed in row.allowed.items():
        if key in row.search:
            for value in _ends(row.search[key]):
                assert checked_hyperparameters(name, {key: value})[key] == value
        for value in _ends(allowed):
            checked_hyperparameters(name, {key: value})
        for value in _impossible(allowed):
            with pytest.raises(BadInput, match=f"^model {name}: {key} must be .*, got ") as caught:
                checked_hyperparameters(name, {key: value})
            assert "\n" not in str(caught.value)


def _ends(space: SearchRange) -> tuple[Scalar, ...]:
    return space.values if isinstance(space, Choice) else (space.low, space.high)


def _impossible(allowed: SearchRange) -> list[Scalar]:
    impossible: list[Scalar] = [math.nan, math.inf, -math.inf, -1, -1e-9, 10**400, "", "salt"]
    if isinstance(allowed, Choice):
        # 1 == 1.0 == True in Python, but each is another text in an identity.
        swapped = {int: float, bool: int}
        kinds = {type(value) for value in allowed.values}
        values = [swapped[type(v)](v) for v in allowed.values if type(v) in swapped]
        return [*impossible, *values, *([] if bool in kinds else [True])]
    return [*impossible, True, False, allowed.low - 1, allowed.high + 1]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mlp_classifier", "dropout", 1.5),
        ("cnn_classifier", "shift", -1),
        ("cnn_classifier", "shift", 50),
        ("sparse_ae", "l1", -1.0),
        ("denoising_ae", "level", math.nan),
        ("denoising_ae", "corruption", "salt"),
        ("conv_baseline_ae", "encoder_convs", 3),
        ("vq_vae", "commitment", -0.25),
    ],
)
def test_impossible_values_build_nothing(name: str, key: str, value: Scalar) -> None:
    with pytest.raises(BadInput, match=f"model {name}: {key} must be "):
        build_network(name, (1, 28, 28), classes=10, hyperparameters={key: value})


def test_the_search_of_rae_can_find_each_of_its_two_regularisers_alone() -> None:
    search = MODELS["rae"].search
    for key in ("l2", "gradient_penalty"):
        space = search[key]
        assert isinstance(space, Choice)
        assert 0.0 in space.values
        assert MODELS["rae"].hyperparameters[key] in space.values


def test_pca_is_the_best_linear_code() -> None:
    sklearn = pytest.importorskip("sklearn.decomposition")
    images = _images((1, 12, 12), 300)
    model = build_model("pca", (1, 12, 12), 9)
    assert isinstance(model, ClosedFormAutoencoder)
    model.fit(images)
    flat = images.flatten(1).double().numpy() / 255
    reference = sklearn.PCA(n_components=9, svd_solver="full").fit(flat)
    expected = reference.inverse_transform(reference.transform(flat)).clip(0, 1)
    ours = model.reconstruct(images.float() / 255).flatten(1).double().numpy()
    assert abs(ours - expected).max() < 1e-5


def test_pca_of_fewer_images_than_pixels_reconstructs_them_all() -> None:
    images = _images((1, 12, 12), 20)
    model = build_model("pca", (1, 12, 12), 30)
    assert isinstance(model, ClosedFormAutoencoder)
    model.fit(images)
    x = images.float() / 255
    assert (model.reconstruct(x) - x).abs().max() < 1e-4


def test_the_mean_image_is_the_mean_of_the_training_images() -> None:
    images = _images((3, 12, 16), 50)
    model = build_model("mean_image", (3, 12, 16), 4)
    assert isinstance(model, ClosedFormAutoencoder)
    model.fit(images)
    expected = (images.double() / 255).mean(dim=0).float()
    torch.testing.assert_close(model.reconstruct(images[:2].float())[1], expected)


def test_the_vae_states_its_loss_as_its_origin_did() -> None:
    """mean squared error + 0.5 * mean over batch and 32 dimensions of 1/2(mu^2+s^2-log s^2-1)."""
    torch.manual_seed(0)
    model = build_model("vae", (1, 28, 28))
    x = _images((1, 28, 28)).float() / 255
    terms = model.loss(x)
    hidden = model.trunk(x)
    mean, log_variance = model.mean_head(hidden), model.log_variance_head(hidden)
    kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1)
    assert terms.penalty is not None
    torch.testing.assert_close(terms.penalty, 0.5 * kl.mean())


@pytest.mark.parametrize("shape", [(2, 28, 28), (4, 28, 28), (1, 0, 28)])
def test_an_image_shape_that_does_not_fit_is_refused(shape: Shape) -> None:
    with pytest.raises(BadInput, match="expected 1 or 3 channels"):
        build_model("fc_ae", shape, 8)


@every_variant
@pytest.mark.parametrize("shape", PADDED, ids=str)
def test_losses_and_sizes_are_those_of_the_original_pixels(name: str, shape: Shape) -> None:
    model = _ready(name, shape, 5)
    assert model.image_shape == shape and model.pixels == math.prod(shape)
    if model.code_size and model.levels is None:
        assert model.sizes["compression_ratio"] == math.prod(shape) / 5
    x = _images(shape).float() / 255
    if name in ("mean_image", "pca"):
        assert model.learned_numbers % math.prod(shape) == 0
        return
    target = model.to_range(x)
    torch.manual_seed(2)
    error = (model(target).x_hat - target).square().mean()
    torch.manual_seed(2)
    torch.testing.assert_close(model.loss(x).reconstruction, error)


def test_an_image_lies_in_the_middle_of_its_padding_with_its_edges_repeated() -> None:
    model = build_model("cnn_ae", (1, 9, 14), 5)
    x = _images((1, 9, 14)).float() / 255
    padded = model.padded(x)
    assert padded.shape == (6, 1, 12, 16)
    assert torch.equal(padded[:, :, 1:10, 1:15], x) and torch.equal(model.cropped(padded), x)
    assert torch.equal(padded[:, :, 0, 1:15], x[:, :, 0])
    assert torch.equal(padded[:, :, 11, 1:15], x[:, :, 8])
    assert torch.equal(padded[:, :, 1:10, 15], x[:, :, :, 13])


def test_sides_that_fit_are_not_padded() -> None:
    for shape in SHAPES:
        x = _images(shape).float()
        for name in AUTOENCODERS:
            model = build_model(name, shape, 5)
            assert model.padded(x) is x and model.cropped(x) is x


@pytest.mark.parametrize("name", ["pca", "fc_ae", "cnn_ae", "conv_bn_ae", "vq_vae", "rnn_ae"])
def test_colour_photographs_of_200_by_200_pixels_get_an_answer(name: str) -> None:
    model = _ready(name, (3, 200, 200), 5)
    x = _images((3, 200, 200), 2).float() / 255
    assert model.reconstruct(x).shape == x.shape


def test_mistakes_in_names_and_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="did you mean cnn_ae"):
        build_model("cnn_a", (1, 28, 28), 8)
    with pytest.raises(BadInput, match="latent size 0"):
        build_model("fc_ae", (1, 28, 28), 0)
    with pytest.raises(BadInput, match="did you mean beta"):
        checked_hyperparameters("vae", {"bta": 1.0})
    with pytest.raises(BadInput, match="beta must be a number from 0 to 1000000, got 'x'"):
        checked_hyperparameters("vae", {"beta": "x"})
    assert checked_hyperparameters("vae", {"beta": 2}) == {"beta": 2.0}


def test_learned_numbers_count_what_is_trained_or_solved() -> None:
    assert build_model("fc_ae", (1, 28, 28)).learned_numbers == PRINTED_PARAMETERS["fc_ae"]
    assert build_model("pca", (1, 28, 28), 16).learned_numbers == 784 * 17
    assert build_model("mean_image", (1, 28, 28), 16).learned_numbers == 784
    discrete = build_model("vq_vae", (1, 28, 28), 49)
    trained = sum(parameter.numel() for parameter in discrete.parameters())
    assert discrete.learned_numbers == trained + 512 * 16, "the codebook follows running means"
