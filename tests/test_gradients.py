"""Gradients taken directly are autograd's, bit for bit: no run depends on how they are taken."""

import pytest
import torch
from torch import Tensor

from bench.models.base import ImageModel, ImageShape
from bench.models.dense import PlainAutoencoder
from bench.models.zoo import MODELS, build_network
from bench.training import gradients
from bench.training.gradients import gradients_of

DIRECT = ("fc_ae", "plain_ae", "mlp_ae", "deep_ae", "tapered_ae", "denoising_ae")
SHAPES: tuple[ImageShape, ...] = ((1, 28, 28), (1, 13, 11), (3, 32, 32))


def _made(name: str, shape: ImageShape, size: int) -> ImageModel:
    torch.manual_seed(3)
    return build_network(name, shape, size).train()


def _images(count: int, shape: ImageShape) -> Tensor:
    drawn = torch.Generator().manual_seed(count)
    return (torch.rand(count, *shape, generator=drawn) - 0.4).clamp(0, 1)


def _by_autograd(model: ImageModel, images: Tensor) -> dict[str, Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    loss = model.loss(images, torch.zeros(len(images), dtype=torch.int64))
    assert hasattr(loss, "reconstruction")
    loss.total.backward()
    return {"loss": loss.total, **loss.parts()}


def _is_direct(model: ImageModel) -> bool:
    return isinstance(gradients_of(model), gradients._DenseGradients)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("name", DIRECT)
def test_they_are_those_of_autograd(name: str, size: int, shape: ImageShape) -> None:
    """Of whole batches, a last one that is a part, and a whole one again."""
    direct, other = _made(name, shape, size), _made(name, shape, size)
    compute = gradients_of(direct)
    assert _is_direct(direct)
    for number, count in enumerate((64, 17, 1, 64)):
        images = _images(count, shape)
        torch.manual_seed(number)  # of the noise that corrupts images
        found = compute(images, torch.zeros(count, dtype=torch.int64))
        torch.manual_seed(number)
        expected = _by_autograd(other, images)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        for one, same in zip(direct.parameters(), other.parameters(), strict=True):
            assert one.grad is not None and same.grad is not None
            assert torch.equal(one.grad, same.grad)
            with torch.no_grad():  # the next batch meets other weights
                for each in (one, same):
                    each.sub_(each.grad, alpha=0.5)


TRAINED = [n for n, row in MODELS.items() if row.kind == "autoencoder" and not row.closed_form]


@pytest.mark.parametrize("name", TRAINED)
def test_where_a_loss_has_more_it_is_autograd_that_differentiates(name: str) -> None:
    model = _made(name, (1, 28, 28), MODELS[name].native_latent_dim or 16)
    assert _is_direct(model) == (name in DIRECT)


def test_a_class_of_ones_own_is_never_taken_for_its_parent() -> None:
    """It may have added a term, a layer or a hook."""

    class Own(PlainAutoencoder):
        pass

    assert _is_direct(PlainAutoencoder((1, 28, 28), 4))
    assert not _is_direct(Own((1, 28, 28), 4))
