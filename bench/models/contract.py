"""The contract of a model: rules that every row of MODELS and every model of your own keeps.

Each rule is a function that returns what is missing, in plain words, or nothing. `bench conform`
and the tests of MODELS check the same rules.
"""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from bench.core.errors import BadInput, BenchError
from bench.models.base import (
    Autoencoder,
    Classifier,
    ClosedFormAutoencoder,
    ImageModel,
    ImageShape,
)
from bench.models.rows import Variant
from bench.models.zoo import build_network, variant

SHAPES: tuple[ImageShape, ...] = ((1, 28, 28), (3, 32, 32), (1, 12, 20), (1, 9, 13))
"""Images that every model takes: grey and colour, rectangles, sides that cannot be halved."""
LATENT_DIMS = (8, 3)
CLASSES = 10
_FEW, _BATCH, _STEPS = 6, 32, 24


@dataclass(frozen=True)
class Candidate:
    """A model at a latent size (None: a classifier) for images of one shape.

    `images` are real ones, uint8 (N, C, H, W), with their classes `labels` (N,), int64.
    """

    name: str
    latent_dim: int | None
    images: Tensor
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    @property
    def row(self) -> Variant:
        """Its row."""
        return variant(self.name)

    @property
    def shape(self) -> ImageShape:
        """C, H, W of the images."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def new(self) -> ImageModel:
        """An untrained network, equal for every call."""
        torch.manual_seed(0)
        return build_network(self.name, self.shape, self.latent_dim, classes=CLASSES)

    @cached_property
    def ready(self) -> ImageModel:
        """The network in evaluation mode, solved if it is a closed form."""
        model = self.new()
        if isinstance(model, ClosedFormAutoencoder):
            model.fit(self.images)
        return model.eval()

    @cached_property
    def x(self) -> Tensor:
        """A few images in [0, 1]."""
        return self.images[:_FEW].float() / 255

    @property
    def classes(self) -> Tensor:
        """The classes of these images."""
        return self.labels[:_FEW] if len(self.labels) else torch.arange(len(self.x)) % CLASSES


def answer(model: ImageModel, x: Tensor) -> Tensor:
    """What a model is scored by: reconstructions of images in [0, 1], or logits."""
    found = model.answers(x, torch.zeros(len(x), dtype=torch.int64))
    return found["reconstructions" if isinstance(model, Autoencoder) else "logits"]


def shapes_and_ranges(given: Candidate) -> str:
    """Codes are (N, code_size), reconstructions have the shape of the images and are in [0, 1]."""
    model, x = given.ready, given.x
    if isinstance(model, Classifier):
        logits = answer(model, x)
        if logits.shape == (len(x), CLASSES):
            return ""
        return f"logits are {_is(logits)}, expected {(len(x), CLASSES)} (images, classes)"
    assert isinstance(model, Autoencoder)
    return _codes_and_images(model, x)


def _codes_and_images(model: Autoencoder, x: Tensor) -> str:
    z = model.encode_images(x)
    if not isinstance(z, Tensor) or z.shape != (len(x), model.code_size):
        return f"encode gives {_is(z)}, expected {(len(x), model.code_size)} (images, code_size)"
    raw = model.decode(z)
    wanted = tuple(model.padded(x).shape)
    if not isinstance(raw, Tensor) or raw.shape != wanted:
        return f"decode gives {_is(raw)}, expected {wanted}"
    x_hat = model.reconstruct(x)
    if not (x_hat.isfinite().all() and x_hat.min() >= 0 and x_hat.max() <= 1):
        return "reconstructions hold numbers that are not finite"
    if not torch.equal(model.decode_images(z), x_hat):
        return "decoding the same code again gives another image; decode must depend on it alone"
    return ""


def dtypes(given: Candidate) -> str:
    """Codes and images are float32; a discrete code holds whole numbers below `levels`."""
    model, x = given.ready, given.x
    if (out := answer(model, x)).dtype != torch.float32:
        return f"the output is {out.dtype}, expected torch.float32"
    if not isinstance(model, Autoencoder):
        return ""
    z = model.encode_images(x)
    if model.levels is None:
        return "" if z.dtype == torch.float32 else f"the code is {z.dtype}, expected torch.float32"
    whole = torch.equal(z.float(), z.float().round())
    inside = not z.numel() or bool(z.min() >= 0 and z.max() < model.levels)
    return "" if whole and inside else f"the code must hold whole numbers 0 to {model.levels - 1}"


def code_size(given: Candidate) -> str:
    """The code has as many numbers as were asked for, whatever the images."""
    model = given.ready
    if not isinstance(model, Autoencoder) or model.code_size == 0:
        return ""
    wanted = given.row.native_latent_dim if given.latent_dim is None else given.latent_dim
    if wanted is not None and model.code_size != wanted:
        return f"code_size is {model.code_size} where a latent size of {wanted} was given"
    white, black = torch.ones_like(given.x), torch.zeros_like(given.x)
    sizes = {tuple(model.encode_images(each).shape) for each in (given.x, white, black)}
    return "" if len(sizes) == 1 else f"the size of the code depends on the images: {sizes}"


def deterministic(given: Candidate) -> str:
    """The same images give the same answer again; equal seeds give equal networks."""
    model, x = given.ready, given.x
    if not torch.equal(answer(model, x), answer(model, x)):
        return "the same images give another answer when asked again (draw only in embed)"
    first, second = given.new().state_dict(), given.new().state_dict()
    unequal = [key for key in first if not torch.equal(first[key], second[key])]
    return f"equal seeds give other weights: {unequal[0]}" if unequal else ""


def apart(given: Candidate) -> str:
    """The images of a batch do not influence each other."""
    model, x = given.ready, given.x
    alone = torch.cat([answer(model, image[None]) for image in x])
    if torch.allclose(answer(model, x), alone, rtol=1e-4, atol=1e-5):
        return ""
    return "the answer for an image depends on the other images of its batch"


def gradients(given: Candidate) -> str:
    """Every parameter gets a gradient, and a closed form has none."""
    model = given.new().train()
    parameters = dict(model.named_parameters())
    if isinstance(model, ClosedFormAutoencoder):
        return f"a closed form has no parameters, this has {len(parameters)}" if parameters else ""
    if not parameters:
        return "there is nothing to learn: no parameters (lists of layers need nn.ModuleList)"
    terms = model.loss(given.x, given.classes)
    if not terms.total.isfinite():
        return "the loss of an untrained network is not finite"
    terms.total.backward()
    for key, parameter in parameters.items():
        if parameter.grad is None or not parameter.grad.any():
            return f"{key} gets no gradient: it cannot learn"
    return ""


def loss_of_pixels(given: Candidate) -> str:
    """The loss is the mean squared error on the original pixels, plus the penalty."""
    model = given.ready
    if not isinstance(model, Autoencoder) or isinstance(model, ClosedFormAutoencoder):
        return ""
    torch.manual_seed(2)
    terms = model.loss(given.x)
    penalty = 0.0 if terms.penalty is None else terms.penalty.item()
    if not math.isclose(terms.total.item(), terms.reconstruction.item() + penalty, rel_tol=1e-5):
        return "the loss is not the error plus the penalty"
    torch.manual_seed(2)
    target = model.to_range(given.x)
    error = (model(target).x_hat - target).square().mean()
    return "" if torch.allclose(error, terms.reconstruction) else "the error is not that of pixels"


def round_trip(given: Candidate) -> str:
    """Weights written to safetensors and read into a new network give the same answer."""
    model, again = given.ready, given.new().eval()
    try:
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        again.load_state_dict(load(save(weights)))
    except (RuntimeError, ValueError) as error:
        return f"its weights cannot be written and read: {' '.join(str(error).split())[:200]}"
    if torch.equal(answer(model, given.x), answer(again, given.x)):
        return ""
    return "weights that were written and read give another answer: something is kept elsewhere"


def code_is_enough(given: Candidate) -> str:
    """Another copy of the network decodes a code as well, whatever was encoded meanwhile."""
    model, again = given.ready, given.new().eval()
    if not isinstance(model, Autoencoder) or not isinstance(again, Autoencoder):
        return ""
    again.load_state_dict(model.state_dict())
    direct, z = model.reconstruct(given.x), model.encode_images(given.x)
    model.encode_images(1 - given.x)
    again.encode_images(1 - given.x)
    for each in (model, again):
        if not torch.equal(each.decode_images(z), direct):
            return "decoding the code alone gives another image: encode keeps something elsewhere"
    return ""


def keeps_its_weights(given: Candidate) -> str:
    """Scoring images changes no parameter and no buffer."""
    model = given.ready
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer(model, given.x)
    changed = [k for k, v in model.state_dict().items() if not torch.equal(before[k], v)]
    return f"{changed[0]} changes while images are scored" if changed else ""


def learns(given: Candidate) -> str:
    """A few steps on real images lower the loss on them."""
    model = given.new()
    if isinstance(model, ClosedFormAutoencoder):
        return ""
    x = given.images[:_BATCH].float() / 255
    labels = given.labels[:_BATCH] if len(given.labels) else torch.arange(len(x)) % CLASSES
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    losses = []
    for _ in range(_STEPS):
        loss = model.loss(x, labels).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    if math.isfinite(last) and last < first:
        return ""
    return f"{_STEPS} steps on {len(x)} images do not lower the loss: {first:.4g}, then {last:.4g}"


Rule = Callable[[Candidate], str]
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "shapes and value ranges": shapes_and_ranges,
        "types of numbers": dtypes,
        "size of the code": code_size,
        "the same answer every time": deterministic,
        "images of a batch apart": apart,
        "every parameter learns": gradients,
        "loss on the original pixels": loss_of_pixels,
        "weights written and read": round_trip,
        "the code alone is decoded": code_is_enough,
        "weights stay while it is scored": keeps_its_weights,
        "learns on real images": learns,
    }
)
"""The rules, by what they ask for."""
ONCE = frozenset({"learns on real images"})
"""Rules that one shape is enough for."""


@dataclass(frozen=True)
class Finding:
    """The result of a rule: `missing` says for which images and why; "" if it is kept."""

    rule: str
    missing: str = ""


def candidates(name: str, images: Tensor, labels: Tensor) -> list[Candidate]:
    """What a model is checked on: grey images (N, 1, H, W), uint8, with their classes, as they are
    and in each of SHAPES, at several latent sizes.

    Raises BadInput for an unknown model.
    """
    row = variant(name)
    if row.kind == "classifier":
        return [Candidate(name, None, shaped(images, shape), labels) for shape in SHAPES]
    first, *others = LATENT_DIMS
    cells: list[tuple[ImageShape, int | None]] = [(shape, first) for shape in SHAPES]
    cells += [(SHAPES[0], size) for size in others]
    cells += [(SHAPES[0], None)] if row.native_latent_dim else []
    return [Candidate(name, size, shaped(images, shape), labels) for shape, size in cells]


def shaped(images: Tensor, shape: ImageShape) -> Tensor:
    """Grey images (N, 1, H, W), uint8, resized to a shape (C, H, W); colours are equal."""
    channels, height, width = shape
    resized = functional.interpolate(
        images.float(), (height, width), mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1).contiguous()


def check(given: Sequence[Candidate]) -> Iterator[Finding]:
    """Check a model by every rule, on each candidate until one shows what is missing."""
    for rule, ask in RULES.items():
        reasons = (
            f"images of {'x'.join(map(str, each.shape))}{_at(each)}: {why}"
            for each in given[: 1 if rule in ONCE else None]
            if (why := _asked(ask, each))
        )
        yield Finding(rule, next(reasons, ""))


def _at(given: Candidate) -> str:
    return "" if given.latent_dim is None else f" at latent size {given.latent_dim}"


def _asked(ask: Rule, given: Candidate) -> str:
    """A rule's answer; what the model raises is one as well. What it prints goes to stderr."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return ask(given)
    except BadInput as error:
        return str(error)
    except (BenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too, which would end the command in silence
        where = _line(error, given)
        return f"{type(error).__name__}{where}: {' '.join(str(error).split())[:300]}"


def _line(error: BaseException, given: Candidate) -> str:
    """The last line of the model's own file that an error came through."""
    trace, place = error.__traceback__, ""
    module = getattr(given.row.build, "__module__", "")
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == module:
            place = f" in line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _is(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
