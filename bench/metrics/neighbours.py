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
_DISTANCES_AT_ONCE = 2**22


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
    """Indices (N, 5) of the nearest rows of `fitted`, nearest first, then by index."""
    # Without the product of matrices, which would round equal distances differently.
    distances = torch.cdist(own, fitted, compute_mode="donot_use_mm_for_euclid_dist")
    count = min(NEIGHBOURS, len(fitted))
    chosen = distances.topk(count, dim=1, largest=False).indices
    last = distances.gather(1, chosen).amax(dim=1, keepdim=True)
    tied = (distances <= last).sum(dim=1) > count
    if tied.any():
        chosen[tied] = distances[tied].argsort(dim=1, stable=True)[:, :count]
    chosen = chosen.sort(dim=1).values
    return chosen.gather(1, distances.gather(1, chosen).argsort(dim=1, stable=True))


def _vote(labels: Tensor) -> Tensor:
    """The most frequent of the labels (N, k) in each row; of several, the one that comes first."""
    votes = (labels.unsqueeze(2) == labels.unsqueeze(1)).sum(dim=2)
    return labels.gather(1, votes.argmax(dim=1, keepdim=True)).squeeze(1)
