"""How much decoded draws look like images of a data set, and whether they were copied from it.

A generator is a decoder and a sampler of codes. `prior`: z ~ N(0, I), towards which only some
variants are trained; `gaussian`: the mean and full covariance of training codes; `mixture`: ten
Gaussians with full covariances, fitted to training codes by expectation maximisation (as
scikit-learn's GaussianMixture, seed 0). Fits read the first 10,000 training codes at most. Discrete
codes have no such samplers; codes of more than 512 numbers are too long to fit covariances.

As many samples are drawn as the part has images, at most 2,000 (the distances between all pairs
cost their square), with seeds of their own (not the run's), so that rows differ by their codes and
decoders alone. They are rounded to 8 bits, like the images that they are compared with. Images are
compared by features: of the network pinned for the data set, and, beside it, of an untrained one.
`real` in place of a sampler stands for the other held-out part (validation for test and the other
way round; the first training images if it has fewer images): what a perfect sampler would reach.
`mean_image` stands for the mean training image.

All values depend on the number of images: the fewer, the larger a Fréchet distance (its bias falls
with 1/N) and the smaller recall and coverage. Compare values of the same protocol only, and with
those of `real`.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.seen import Seen
from bench.metrics.threads import one_thread

Sampler = Literal["prior", "gaussian", "mixture"]
Source = Literal["prior", "gaussian", "mixture", "real", "mean_image"]
Network = Literal["trained", "untrained"]
Measure = Literal["fcd", "precision", "recall", "density", "coverage", "closeness"]
SAMPLERS: tuple[Sampler, ...] = ("prior", "gaussian", "mixture")
MOST_SAMPLES, MOST_FITTED = 2_000, 10_000
COMPONENTS = 10
NEIGHBOURS_OF_RECALL, NEIGHBOURS_OF_COVERAGE = 3, 5
_DISTANCES_AT_ONCE = 2**20
_REGULARISATION = 1e-6
"""Added to the variances of a mixture, as a share of the codes' mean variance: codes have any
scale, and numbers that do not vary are allowed."""


def draw_codes(sampler: Sampler, codes: Tensor, count: int) -> Tensor:
    """`count` codes, float32 (count, size), of a sampler fitted to training codes (N, size)."""
    fitted = codes[:MOST_FITTED].double().cpu()
    generator = torch.Generator().manual_seed(0)
    with one_thread():
        if sampler == "mixture":
            return _mixture(fitted, count)
        noise = torch.randn(count, fitted.shape[1], generator=generator, dtype=torch.float64)
        return (noise if sampler == "prior" else _gaussian(fitted, noise)).float()


def _gaussian(codes: Tensor, noise: Tensor) -> Tensor:
    """Draws of the Gaussian with the mean and covariance of `codes` from those of N(0, I)."""
    size = codes.shape[1]
    values, vectors = torch.linalg.eigh(torch.cov(codes.T, correction=0).view(size, size))
    drawn: Tensor = codes.mean(dim=0) + (noise * values.clamp_min(0).sqrt()) @ vectors.T
    return drawn


def _mixture(codes: Tensor, count: int) -> Tensor:
    """Draws of a mixture of (at most) 10 Gaussians fitted to `codes`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    scale = codes.var(dim=0, correction=0).mean().sqrt()
    if not scale > 0:  # a collapsed code: all codes are one
        return codes[:1].expand(count, -1).float()
    model = GaussianMixture(
        min(COMPONENTS, len(codes)), reg_covar=_REGULARISATION, random_state=0, max_iter=200
    )
    with warnings.catch_warnings(), threadpool_limits(1):
        # After 200 steps, or with fewer different codes than components, the mixture is still one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((codes / scale).numpy())
    drawn, _ = model.sample(count)
    order = np.random.default_rng(0).permutation(count)  # else they are sorted by component
    return (torch.from_numpy(drawn[order]) * scale).float()


def samples(seen: Seen, sampler: Sampler, count: int) -> Tensor:
    """Decoded draws of a sampler, uint8 (count, C, H, W); the same for all parts of that size."""

    def make() -> Tensor:
        train = seen.train
        codes = train.vectors if sampler == "prior" else train.short_vectors
        drawn = draw_codes(sampler, codes, count)
        return torch.cat([as_bytes(seen.decode(part)) for part in drawn.split(500)])

    return seen.train.once(f"{count} samples of {sampler}", make)


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] rounded to 8 bits, as stored images are; what is not finite becomes 0."""
    return images.nan_to_num(0.0).mul(255).round().clamp(0, 255).to(torch.uint8)


def frechet(one: Tensor, other: Tensor) -> float:
    """The squared Fréchet distance between Gaussians with the moments of two sets (N, F), (M, F).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64, covariances with N - 1; Dowson and
    Landau 1982. The trace of the root is that of (S1^(1/2) S2 S1^(1/2))^(1/2), whose eigenvalues
    are real and not negative. Heusel et al. 2017 take it in Inception's features.
    """
    with one_thread():
        a, b = one.double(), other.double()
        first, second = _covariance(a), _covariance(b)
        values, vectors = torch.linalg.eigh(first)
        root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
        distance = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
        return max(0.0, float(distance + first.trace() + second.trace() - 2 * shared))


def _covariance(features: Tensor) -> Tensor:
    """(F, F), with N - 1; zeros for a single row."""
    centred = features - features.mean(dim=0)
    return centred.T @ centred / max(1, len(features) - 1)


class Reach(NamedTuple):
    """The distances of each row to its 3rd and its 5th nearest other row, float64 (N,) each."""

    third: Tensor
    fifth: Tensor


def reach(features: Tensor) -> Reach:
    """The radii of the balls of features (N, F), N > 1; of few rows, those of the farthest."""
    found = []
    for start, distances in _distances(features, features):
        rows = torch.arange(len(distances))
        distances[rows, start + rows] = torch.inf
        nearest_few = distances.topk(min(5, len(features) - 1), dim=1, largest=False).values
        found.append(nearest_few[:, [min(k, nearest_few.shape[1]) - 1 for k in (3, 5)]])
    third, fifth = torch.cat(found).unbind(dim=1)
    return Reach(third, fifth)


class Overlap(NamedTuple):
    """How far samples and real images lie among each other.

    With k = 3, Kynkäänniemi et al. 2019, equations 1 and 2: `precision`, the share of samples that
    lie within the ball around some real image that its k-th nearest neighbour among real images
    bounds; `recall`, the same with the two sets exchanged. With k = 5, Naeem et al. 2020,
    equations 3 and 4: `density`, 1 / (k M) times the number of pairs of one of M samples and a real
    image in whose ball it lies (above 1 where samples crowd); `coverage`, the share of real images
    in whose ball at least one sample lies. Balls include their border.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Tensor, fake: Tensor, of_real: Reach, of_fake: Reach) -> Overlap:
    """Of features (N, F) and (M, F) with their radii; distances are Euclidean, in float64."""
    precise = crowd = 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    for start, distances in _distances(fake, real):
        own = of_fake.third[start : start + len(distances), None]
        precise += int((distances <= of_real.third).any(dim=1).sum())
        recalled |= (distances <= own).any(dim=0)
        inside = distances <= of_real.fifth
        crowd += int(inside.sum())
        covered |= inside.any(dim=0)
    return Overlap(
        precise / len(fake),
        recalled.double().mean().item(),
        crowd / (5 * len(fake)),
        covered.double().mean().item(),
    )


class Nearest(NamedTuple):
    """Of each row: the place of its nearest training image, int64 (N,), and their distance (N,)."""

    place: Tensor
    distance: Tensor


def nearest(features: Tensor, training: Tensor) -> Nearest:
    """The nearest training image of each row (N, F), by features (M, F); of equals the first."""
    found = [distances.min(dim=1) for _, distances in _distances(features, training)]
    return Nearest(torch.cat([f.indices for f in found]), torch.cat([f.values for f in found]))


def closeness(found: Nearest, training: Tensor) -> float:
    """Share of images that are nearer to their nearest training image than this one is to the
    training image nearest to it; `found` by features `training` (M, F), M > 1.

    A third to one half for new images of the same kind, wherever training images lie dense or thin;
    1 for copies.
    """
    places, which = found.place.unique(return_inverse=True)
    apart = []
    for start, distances in _distances(training[places], training):
        rows = torch.arange(len(distances))
        distances[rows, places[start : start + len(distances)]] = torch.inf
        apart.append(distances.amin(dim=1))
    return (found.distance < torch.cat(apart)[which]).double().mean().item()


def _distances(rows: Tensor, others: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Euclidean distances of rows (N, F) to others (M, F), float64, a few rows at a time, each time
    with the index of the first."""
    count = max(1, _DISTANCES_AT_ONCE // len(others))
    whole = others.double()
    for start in range(0, len(rows), count):
        with one_thread():
            yield start, torch.cdist(rows[start : start + count].double(), whole)


def score(
    seen: Seen,
    _config: EvaluationConfig,
    *,
    measure: Measure,
    source: Source,
    network: Network = "trained",
) -> Tensor:
    """A measure of what a source gives, in the features of a network; see the module."""
    real = _features(seen, network)[:MOST_SAMPLES]
    if min(len(real), len(_features(seen.train, network))) < 2:
        return torch.tensor(torch.nan, dtype=torch.float64)  # a single image has no neighbours
    if measure == "closeness" and source == "real":
        share = _closeness_of_images(seen.features, seen.train.features)
        return torch.tensor(share, dtype=torch.float64)
    fake = _given(seen, source, network, len(real))
    if measure == "fcd":
        return torch.tensor(frechet(real, fake), dtype=torch.float64)
    if measure == "closeness":
        share = seen.train.once(
            f"closeness of {len(fake)} samples of {source}",
            lambda: closeness(nearest(fake, seen.train.features), seen.train.features),
        )
        return torch.tensor(share, dtype=torch.float64)
    of_real = seen.once(f"reach of real images, {network}", lambda: reach(real))
    among = seen.once(
        f"overlap of {source}, {network}", lambda: overlap(real, fake, of_real, reach(fake))
    )
    return torch.tensor(getattr(among, measure), dtype=torch.float64)


@functools.lru_cache(maxsize=4)
def _closeness_of_images(features: Tensor, training: Tensor) -> float:
    """`closeness` of the first 2,000 images of a part: the same for all models, so kept for the
    next one. Two tensors are equal here if they are one object, as kept features are."""
    return closeness(nearest(features[:MOST_SAMPLES], training), training)


def _features(seen: Seen, network: Network) -> Tensor:
    return seen.features if network == "trained" else seen.untrained_features


def _given(seen: Seen, source: Source, network: Network, count: int) -> Tensor:
    """The features of what a source gives: (count, F), or one row for the mean image."""
    if source == "real":
        return _features(seen.counterpart, network)[:count]
    if source != "mean_image":
        return sample_features(seen, source, count, network)
    see = seen.network if network == "trained" else seen.untrained_network
    return see(as_bytes(seen.mean_image))


def sample_features(
    seen: Seen, sampler: Sampler, count: int, network: Network = "trained"
) -> Tensor:
    """The features of `samples`, float32 (count, F)."""
    see = seen.network if network == "trained" else seen.untrained_network
    return seen.train.once(
        f"features of {count} samples of {sampler}, {network}",
        lambda: see(samples(seen, sampler, count)),
    )
