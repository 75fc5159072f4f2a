"""Nearest neighbours among codes: how well a code keeps classes apart.

Cover and Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory
13(1), 1967. Sainburg, McInnes and Gentner, "Parametric UMAP embeddings", Neural Computation 33(11),
2021, compare autoencoders by it.
"""

import torch
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.seen import Seen

NEIGHBOURS = 5
_DISTANCES_AT_ONCE = 2**19
_CANDIDATES = 16
_ROUNDING = 1e-10
"""How far products of matrices of float64 may be off, as a share of the squares that are summed; a
generous bound."""


def knn_accuracy(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Share of images, in [0, 1], whose class is that of most of the 5 nearest training codes.

    Distances are Euclidean, in float64, between codes standardised by the training codes' mean and
    standard deviation; columns that are constant in training count as 0. Of equally frequent
    classes the one with the nearest neighbour wins, of equally near codes the first in training.
    """
    return _accuracy(seen, *standardised(seen.train.codes, seen.codes))


def knn_accuracy_raw(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """As `knn_accuracy`, of codes as they are: numbers with a large scale count most."""
    return _accuracy(seen, seen.train.codes.cpu().double(), seen.codes.cpu().double())


def _accuracy(seen: Seen, fitted: Tensor, own: Tensor) -> Tensor:
    labels = seen.train.labels.cpu()
    rows = max(1, _DISTANCES_AT_ONCE // len(fitted))
    called = [_vote(labels[_nearest(part, fitted)]) for part in own.split(rows)]
    return (torch.cat(called) == seen.labels.cpu()).double().mean()


def standardised(fitted: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (M, size) and (N, size) by the mean and standard deviation of the first, on the CPU."""
    # .cpu(): not every device supports float64.
    fitted, own = fitted.cpu().double(), own.cpu().double()
    varies = fitted.amax(dim=0) > fitted.amin(dim=0)
    fitted, own = fitted[:, varies], own[:, varies]
    mean = fitted.mean(dim=0)
    deviation = (fitted - mean).square().mean(dim=0).sqrt()
    return (fitted - mean) / deviation, (own - mean) / deviation


def _nearest(own: Tensor, fitted: Tensor) -> Tensor:
    """Indices (N, 5) of the nearest rows of `fitted`, nearest first, then by index.

    A product of matrices names 16 candidates for each row; the distances that decide are those of
    `_distances`. Where others may be as near as the fifth, all of them are computed so.
    """
    count = min(NEIGHBOURS, len(fitted))
    if len(fitted) <= _CANDIDATES:
        return _nearest_of_all(own, fitted)
    # Half of the squared distance, without the part that all candidates of a row share.
    halves = torch.addmm(fitted.square().sum(dim=1) / 2, own, fitted.T, alpha=-1)
    near = halves.topk(_CANDIDATES, dim=1, largest=False)
    candidates = near.indices.sort(dim=1).values
    distances = _distances(own[:, None], fitted[candidates])[:, 0]
    order = distances.argsort(dim=1, stable=True)[:, :count]
    chosen = candidates.gather(1, order)
    rounding = _ROUNDING * (own.square().sum(dim=1) + fitted.square().sum(dim=1).max())
    # Not >: a distance that is not a number decides nothing.
    unsure = ~(near.values[:, -1] - near.values[:, count - 1] > rounding)
    if unsure.any():
        chosen[unsure] = _nearest_of_all(own[unsure], fitted)
    return chosen


def _nearest_of_all(own: Tensor, fitted: Tensor) -> Tensor:
    """As `_nearest`, from all distances."""
    distances = _distances(own, fitted)
    count = min(NEIGHBOURS, len(fitted))
    chosen = distances.topk(count, dim=1, largest=False).indices
    last = distances.gather(1, chosen).amax(dim=1, keepdim=True)
    tied = (distances <= last).sum(dim=1) > count
    if tied.any():
        chosen[tied] = distances[tied].argsort(dim=1, stable=True)[:, :count]
    chosen = chosen.sort(dim=1).values
    return chosen.gather(1, distances.gather(1, chosen).argsort(dim=1, stable=True))


def _distances(own: Tensor, fitted: Tensor) -> Tensor:
    """Euclidean distances, without the product of matrices, which would round equal distances
    differently."""
    return torch.cdist(own, fitted, compute_mode="donot_use_mm_for_euclid_dist")


def _vote(labels: Tensor) -> Tensor:
    """The most frequent of the labels (N, k) in each row; of several, the one that comes first."""
    votes = (labels.unsqueeze(2) == labels.unsqueeze(1)).sum(dim=2)
    return labels.gather(1, votes.argmax(dim=1, keepdim=True)).squeeze(1)
