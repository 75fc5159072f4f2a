"""Whether the image changes evenly, and stays an image, on the straight line between two codes.

1,000 pairs of different test images and, to rank by, 250 of validation images (as many as there
are, if there are fewer), drawn with a fixed seed: each image is the start of one path and the end
of another at most. On each path 11 evenly spaced codes, ends included, are decoded, rounded to 8
bits and seen by the feature network of the data set. Between the numbers of a discrete code
there is nothing: it has no such paths.
"""

import torch
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.generation import as_bytes, nearest
from bench.metrics.seen import Seen

PAIRS, FEWER, POINTS = 1000, 250, 11
"""Pairs of test and of validation images, and codes on a path."""
_AT_ONCE = 50
"""Paths decoded at a time."""


def pairs(count: int, most: int = PAIRS) -> Tensor:
    """min(most, count) pairs of different images among `count`, int64 (P, 2): their places.

    The pairs form a ring: each ends where the next one starts. None of fewer than two images.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]
    ring = torch.stack([order, order.roll(-1)], dim=1)
    return ring if len(order) > 1 else ring[:0]


def between(first: Tensor, second: Tensor) -> Tensor:
    """11 evenly spaced codes from each of (P, size) to each of (P, size): (P, 11, size)."""
    weights = torch.linspace(0, 1, POINTS, dtype=first.dtype).view(1, POINTS, 1)
    return first[:, None] * (1 - weights) + second[:, None] * weights


def _paths(seen: Seen) -> Tensor:
    """The features of all paths, float32 (P, 11, F)."""
    return seen.once("paths", lambda: _made(seen))


def _made(seen: Seen) -> Tensor:
    first = seen.vectors[seen.pairs[:, 0]]
    # Every end is the start of another path: it is decoded once.
    own = _seen(seen, first)
    inner = []
    for a, b in zip(first.split(_AT_ONCE), first.roll(-1, 0).split(_AT_ONCE), strict=True):
        points = between(a, b)[:, 1:-1]
        inner.append(_seen(seen, points.flatten(0, 1)).view(len(a), POINTS - 2, -1))
    return torch.cat([own[:, None], torch.cat(inner), own.roll(-1, 0)[:, None]], dim=1)


def _seen(seen: Seen, codes: Tensor) -> Tensor:
    return seen.network(as_bytes(seen.decode(codes)))


def path_variation(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """The mean over paths of the coefficient of variation of their 10 steps' lengths.

    A step's length is the Euclidean distance of neighbouring features; the coefficient is the
    population standard deviation divided by the mean: 0 for even steps, 3 if one step has the whole
    length. A path that stands still counts as 3: its image does not change evenly.
    """
    if not len(seen.pairs):
        return torch.tensor(torch.nan, dtype=torch.float64)
    steps = _paths(seen).double().diff(dim=1).norm(dim=2)
    mean = steps.mean(dim=1)
    moves = mean > 0
    variation = steps.std(dim=1, correction=0) / torch.where(moves, mean, torch.ones_like(mean))
    still = torch.full_like(mean, (POINTS - 2) ** 0.5)
    paths: Tensor = torch.where(moves, variation, still)
    return paths.mean()


def midpoint_distance(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """The mean feature distance of the paths' middle to its nearest training image, divided by that
    of the images between which the paths lead: 1 if the middle is as near as images are.

    NaN if all these images are in the training part.
    """
    if not len(seen.pairs):
        return torch.tensor(torch.nan, dtype=torch.float64)
    found = _paths(seen)
    training = seen.train.features
    middle = nearest(found[:, POINTS // 2], training).distance.mean()
    images = nearest(seen.features[seen.pairs[:, 0]], training).distance.mean()
    return torch.div(middle, images)


def path_confidence(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """The mean probability of the most likely class by the feature network, over all points of all
    paths, ends included."""
    if not len(seen.pairs):
        return torch.tensor(torch.nan, dtype=torch.float64)
    return seen.confidence(_paths(seen).flatten(0, 1)).double().mean()
