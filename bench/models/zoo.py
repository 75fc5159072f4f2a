"""MODELS: all variants on one screen. A new variant is one row here and, if needed, a class.

A row gives the network's origin, its class, the code size of its origin, its own hyperparameters
(beta, lambda, noise) with the allowed values, and what a sweep may change.
Raise `revision` by hand, with a changelog entry, when a change to the class alters its numbers.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bench.core.errors import BadInput, unknown_name
from bench.core.lazy import Lazy
from bench.core.protocol import Scalar
from bench.core.spec import Choice, FloatRange, IntRange
from bench.models import own
from bench.models.rows import (
    CLASSIFIER_SEARCH,
    NOISE_LEVEL,
    PENALTY_WEIGHT,
    RECIPE_SEARCH,
    S0_CLASSIFIER_RECIPE,
    S0_RECIPE,
    S1_RECIPE,
    S2_RECIPE,
    S3_RECIPE,
    S4_RECIPE,
    Variant,
    checked_value,
)

if TYPE_CHECKING:
    from bench.models.base import Autoencoder, Classifier, ImageModel, ImageShape

MODELS: Mapping[str, Variant] = {
    "mean_image": Variant(
        line="predicts the mean training image; the floor of every table",
        origin="reference",
        build=Lazy("bench.models.linear", "MeanImage"),
        native_code_size=0,
        native_parameters=784,
        closed_form=True,
        search={},
        may_be_champion=False,
    ),
    "pca": Variant(
        line="principal components: the best linear autoencoder at a code size",
        origin="reference",
        build=Lazy("bench.models.linear", "Pca"),
        native_parameters=50_960,
        closed_form=True,
        native_latent_dim=64,
        search={},
    ),
    "fc_ae": Variant(
        line="one hidden layer of 128 on each side, ReLU also on the code",
        origin="S1",
        build=Lazy("bench.models.dense", "FcAutoencoder"),
        stacks=True,
        native_parameters=218_192,
        native_latent_dim=64,
        origin_recipe=S1_RECIPE,
    ),
    "plain_ae": Variant(
        line="one hidden layer of 400 and nothing else: the control of the regularised variants",
        origin="reference",
        build=Lazy("bench.models.dense", "PlainAutoencoder"),
        stacks=True,
        native_parameters=680_048,
        native_latent_dim=64,
    ),
    "deep_ae": Variant(
        line="hidden layers of 512, 256 and 128, linear code",
        origin="S0",
        build=Lazy("bench.models.dense", "DeepAutoencoder"),
        stacks=True,
        native_parameters=1_149_520,
        native_latent_dim=64,
        origin_recipe=S0_RECIPE,
    ),
    "cnn_ae": Variant(
        line="two convolutions with pooling and two transposed ones; native code 32 x H/4 x W/4",
        origin="S1",
        build=Lazy("bench.models.convolutional", "CnnAutoencoder"),
        native_code_size=1_568,
        native_parameters=9_569,
        origin_recipe=S1_RECIPE,
    ),
    "vae": Variant(
        line="variational, one hidden layer of 400, KL weight beta as the origin ran it",
        origin="S1",
        build=Lazy("bench.models.variational", "VariationalAutoencoder"),
        stacks=True,
        native_parameters=667_248,
        native_latent_dim=32,
        hyperparameters={"beta": 12.25},
        allowed={"beta": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "beta": FloatRange(1e-2, 2e1, log=True)},
        origin_recipe=S1_RECIPE,
    ),
    "rnn_ae": Variant(
        line="LSTMs over the rows; native code H x 128, else one linear code repeated at every row",
        origin="S1",
        build=Lazy("bench.models.recurrent", "RnnAutoencoder"),
        native_code_size=3_584,
        native_parameters=98_592,
        origin_recipe=S1_RECIPE,
    ),
    "conv_baseline_ae": Variant(
        line="one or two convolutions and pooling around a dense code, nearest up-sampling",
        origin="S2",
        build=Lazy("bench.models.conv_dense", "ConvBaselineAutoencoder"),
        native_parameters=1_621_889,
        native_latent_dim=128,
        hyperparameters={"encoder_convs": 1},
        allowed={"encoder_convs": Choice((1, 2))},
        search={**RECIPE_SEARCH, "encoder_convs": Choice((1, 2))},
        origin_recipe=S2_RECIPE,
    ),
    "conv_modified_ae": Variant(
        line="three convolutions, two of them strided, around a dense code, and their mirror",
        origin="S2",
        build=Lazy("bench.models.conv_dense", "ConvModifiedAutoencoder"),
        native_parameters=1_926_657,
        native_latent_dim=128,
        origin_recipe=S2_RECIPE,
    ),
    "tapered_ae": Variant(
        line="hidden layers of 128, 64, 32, 16 and 12 as far as wider than the code; Tanh output",
        origin="S3",
        build=Lazy("bench.models.dense", "TaperedAutoencoder"),
        stacks=True,
        native_parameters=223_955,
        value_range=(-1.0, 1.0),
        native_latent_dim=3,
        origin_recipe=S3_RECIPE,
    ),
    "conv_bn_ae": Variant(
        line="three convolutions with batch norm; native code 64 x (H/4-2) x (W/4-2); Tanh output",
        origin="S3",
        build=Lazy("bench.models.convolutional", "ConvBatchNormAutoencoder"),
        native_code_size=1_600,
        native_parameters=46_849,
        value_range=(-1.0, 1.0),
        origin_recipe=S3_RECIPE,
    ),
    "mlp_ae": Variant(
        line="hidden layers of 256 and 128 (assumed: unpublished), linear code",
        origin="S4",
        build=Lazy("bench.models.dense", "MlpAutoencoder"),
        stacks=True,
        native_parameters=480_832,
        native_latent_dim=48,
        origin_recipe=S4_RECIPE,
    ),
    "sparse_ae": Variant(
        line="the network of fc_ae with an L1 penalty on the code; l1 = 0 is what the origin ran",
        origin="S1",
        build=Lazy("bench.models.regularised", "SparseAutoencoder"),
        stacks=True,
        native_parameters=218_192,
        native_latent_dim=64,
        hyperparameters={"l1": 1e-3},
        allowed={"l1": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "l1": FloatRange(1e-5, 1e-2, log=True)},
        origin_recipe=S1_RECIPE,
    ),
    "denoising_ae": Variant(
        line="one hidden layer of 400; sees images with added noise or masked pixels",
        origin="literature",
        build=Lazy("bench.models.regularised", "DenoisingAutoencoder"),
        stacks=True,
        native_parameters=680_048,
        native_latent_dim=64,
        hyperparameters={"corruption": "gaussian", "level": 0.1},
        allowed={"corruption": Choice(("gaussian", "masking")), "level": NOISE_LEVEL},
        search={
            **RECIPE_SEARCH,
            "corruption": Choice(("gaussian", "masking")),
            "level": FloatRange(0.02, 0.5, log=True),
        },
    ),
    "contractive_ae": Variant(
        line="one hidden layer of 400; penalises the Jacobian of the encoder",
        origin="literature",
        build=Lazy("bench.models.regularised", "ContractiveAutoencoder"),
        stacks=True,
        native_parameters=680_048,
        native_latent_dim=64,
        hyperparameters={"contraction": 0.1},
        allowed={"contraction": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "contraction": FloatRange(1e-3, 1e1, log=True)},
    ),
    "beta_vae": Variant(
        line="the network of vae with the KL weight of the beta-VAE paper",
        origin="literature",
        build=Lazy("bench.models.variational", "BetaVae"),
        stacks=True,
        native_parameters=667_248,
        native_latent_dim=32,
        hyperparameters={"beta": 4.0},
        allowed={"beta": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "beta": FloatRange(1e-2, 2e1, log=True)},
    ),
    "conv_vae": Variant(
        line="variational, two strided convolutions and their mirror, evidence bound (beta 1)",
        origin="literature",
        build=Lazy("bench.models.variational", "ConvVae"),
        native_parameters=1_700_609,
        native_latent_dim=32,
        hyperparameters={"beta": 1.0},
        allowed={"beta": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "beta": FloatRange(1e-2, 2e1, log=True)},
    ),
    "wae_mmd": Variant(
        line="one hidden layer of 400; codes drawn towards N(0, I) by kernel discrepancy",
        origin="literature",
        build=Lazy("bench.models.regularised", "WassersteinAutoencoder"),
        stacks=True,
        native_parameters=680_048,
        native_latent_dim=64,
        hyperparameters={"mmd": 10.0},
        allowed={"mmd": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "mmd": FloatRange(1e-1, 1e3, log=True)},
    ),
    "rae": Variant(
        line="one hidden layer of 400; small codes, L2 or gradient penalty on the decoder",
        origin="literature",
        build=Lazy("bench.models.regularised", "RegularisedAutoencoder"),
        stacks=True,
        native_parameters=680_048,
        native_latent_dim=64,
        hyperparameters={"beta": 0.01, "l2": 1e-4, "gradient_penalty": 0.0},
        allowed=dict.fromkeys(("beta", "l2", "gradient_penalty"), PENALTY_WEIGHT),
        search={
            **RECIPE_SEARCH,
            "beta": FloatRange(1e-4, 1e0, log=True),
            # Including 0: the search can also find RAE-L2 or RAE-GP alone.
            "l2": Choice((0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)),
            "gradient_penalty": Choice((0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        },
    ),
    "res_ae": Variant(
        line="residual blocks, group norm, SiLU, sub-pixel up-sampling around a linear code",
        origin="literature",
        build=Lazy("bench.models.residual", "ResidualAutoencoder"),
        native_parameters=1_619_716,
        native_latent_dim=64,
    ),
    "vq_vae": Variant(
        line="discrete code: one of 512 learned vectors at each position, 9 bits each",
        origin="literature",
        build=Lazy("bench.models.discrete", "VectorQuantised"),
        native_code_size=49,
        native_parameters=204_433,
        hyperparameters={"commitment": 0.25},
        allowed={"commitment": PENALTY_WEIGHT},
        search={**RECIPE_SEARCH, "commitment": FloatRange(0.05, 2.0, log=True)},
    ),
    "mlp_classifier": Variant(
        line="hidden layers of 512, 256 and 128 with batch norm and dropout",
        origin="S0",
        build=Lazy("bench.models.classifier", "MlpClassifier"),
        native_parameters=569_226,
        kind="classifier",
        hyperparameters={"dropout": 0.3},
        allowed={"dropout": NOISE_LEVEL},
        search={**CLASSIFIER_SEARCH, "dropout": FloatRange(0.05, 0.6)},
        origin_recipe=S0_CLASSIFIER_RECIPE,
    ),
    "cnn_classifier": Variant(
        line="five small convolutions with batch norm; sees shifted, on wish mirrored images",
        origin="literature",
        build=Lazy("bench.models.classifier", "CnnClassifier"),
        native_parameters=89_146,
        kind="classifier",
        hyperparameters={"shift": 1, "mirror": False},
        # The smallest images have sides of 12: part of them must stay visible.
        allowed={"shift": IntRange(0, 11), "mirror": Choice((False, True))},
        search={
            **CLASSIFIER_SEARCH,
            "shift": Choice((0, 1, 2, 3)),
            "mirror": Choice((False, True)),
        },
    ),
}


def variant(name: str) -> Variant:
    """The row of a variant, of MODELS or of a model that was typed or is installed (see `own`).

    Raises BadInput with the nearest names if there is none, and as `own.row`.
    """
    if name in MODELS:
        return MODELS[name]
    found = own.row(name)
    if found is None:
        raise own.unknown(name, MODELS)
    return found


def known_model(text: str) -> str:
    """The name of a variant, or of a class that is typed (`mine.py:Net`); raises as `variant` and
    `own.named`."""
    name = own.named(text)
    variant(name)
    return name


def checked_hyperparameters(name: str, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The row's hyperparameters, overridden by `given`.

    Raises BadInput for one that the row lacks, or a value that the row does not allow.
    """
    row = variant(name)
    checked: dict[str, Scalar] = dict(row.hyperparameters)
    for key, value in given.items():
        if key not in row.hyperparameters:
            raise unknown_name("hyperparameter", key, row.hyperparameters, where=f"model {name}")
        checked[key] = checked_value(f"model {name}: {key}", value, row.allowed[key])
    return checked


def build_network(
    name: str,
    image_shape: "ImageShape",
    latent_dim: int | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    classes: int = 0,
) -> "ImageModel":
    """An untrained variant for images of `image_shape`; `latent_dim` None is its native code.

    Classifiers have no code: they need `classes` instead. Weights are drawn from torch's global
    generator; seed it first. Raises BadInput for an unknown name, a hyperparameter that the row
    lacks or does not allow, a latent size below 1, too large for the variant or given to a
    classifier, fewer than 2 classes, or images that are neither grey nor RGB.
    """
    name = own.named(name)
    row = variant(name)
    channels, height, width = image_shape
    if channels not in (1, 3) or min(height, width) < 1:
        raise BadInput(
            f"images of {channels}x{height}x{width} do not fit: expected 1 or 3 channels; convert "
            "them"
        )
    extra = checked_hyperparameters(name, hyperparameters or {})
    if row.kind == "classifier":
        size: int | None = _checked_classes(name, latent_dim, classes)
    else:
        if latent_dim is not None and latent_dim < 1:
            raise BadInput(
                f"latent size {latent_dim} is impossible; expected a whole number from 1"
            )
        size = row.native_latent_dim if latent_dim is None else latent_dim
        if size is None and row.source:
            raise BadInput(
                f"model {name} has no native code: give a latent size, or declare "
                "native_latent_dim in its class"
            )
    network = row.build.load() if isinstance(row.build, Lazy) else row.build
    return constructed(network, image_shape, size, extra)


def constructed(
    network: "Callable[..., ImageModel]",
    image_shape: "ImageShape",
    size: int | None,
    hyperparameters: Mapping[str, Any],
) -> "ImageModel":
    """A network of its class for images of `image_shape`; the other arguments are the class's.

    Raises BadInput for an impossible number of `levels`.
    """
    from bench.models.base import MOST_LEVELS

    model = network(_network_shape(network, image_shape), size, **hyperparameters)
    levels = getattr(model, "levels", None)
    if levels is not None and not (isinstance(levels, int) and 1 <= levels <= MOST_LEVELS):
        raise BadInput(
            f"{type(model).__name__}.levels is {str(levels)[:40]}, expected a whole number from 1 "
            f"to {MOST_LEVELS:,}: a code is sent as float32, which holds no larger ones exactly"
        )
    model.take_images(image_shape)
    return model


def _network_shape(network: object, image_shape: "ImageShape") -> "ImageShape":
    """The shape that the network is built for: that of the images, padded if it must be."""
    from bench.models.base import LEAST_SIDE, SIDE_MULTIPLE

    if getattr(network, "any_sides", False):
        return image_shape
    channels, *sides = image_shape
    height, width = (
        max(LEAST_SIDE, math.ceil(side / SIDE_MULTIPLE) * SIDE_MULTIPLE) for side in sides
    )
    return channels, height, width


def build(
    name: str,
    image_shape: "ImageShape" = (1, 28, 28),
    latent_dim: int | None = None,
    classes: int = 0,
    **hyperparameters: Scalar,
) -> "ImageModel":
    """As `build_network`, hyperparameters as keywords: `build("vae", latent_dim=8, beta=1)`.

    `name` may be a class of your own: `build("mine.py:Net", latent_dim=8)`.
    """
    return build_network(name, image_shape, latent_dim, hyperparameters, classes)


def _checked_classes(name: str, latent_dim: int | None, classes: int) -> int:
    if latent_dim is not None:
        raise BadInput(f"model {name} is a classifier and has no code: leave the latent size out")
    if classes < 2:
        raise BadInput(
            f"model {name} needs images of at least two classes, these have {classes or 'none'}; "
            "choose a data set with labels"
        )
    return classes


def build_model(
    name: str,
    image_shape: "ImageShape",
    latent_dim: int | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> "Autoencoder":
    """An untrained autoencoder; raises as `build_network`, and BadInput for a classifier."""
    from bench.models.base import Autoencoder

    if variant(name).kind != "autoencoder":
        raise BadInput(f"model {name} is a classifier; expected an autoencoder")
    model = build_network(name, image_shape, latent_dim, hyperparameters)
    assert isinstance(model, Autoencoder)
    return model


def build_classifier(
    name: str,
    image_shape: "ImageShape",
    classes: int,
    hyperparameters: Mapping[str, Any] | None = None,
) -> "Classifier":
    """An untrained classifier; raises as `build_network`, and BadInput for an autoencoder."""
    from bench.models.base import Classifier

    if variant(name).kind != "classifier":
        raise BadInput(f"model {name} is an autoencoder; expected a classifier")
    model = build_network(name, image_shape, None, hyperparameters, classes)
    assert isinstance(model, Classifier)
    return model
