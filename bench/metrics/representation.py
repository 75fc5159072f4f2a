"""What a code is worth: linear probes, clusters, neighbourhoods, and how codes are spread.

All read deterministic codes (N, size). Numbers are computed in float64 on one thread and drawn with
fixed seeds, so that they depend neither on the number of workers nor on threads. scikit-learn fits,
clusters and compares.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.latent import active_units as count_active
from bench.metrics.neighbours import standardised
from bench.metrics.seen import Seen

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""The grid of the probe: scikit-learn's C, the inverse of the weight of the L2 penalty against the
sum over images of the cross-entropy."""
MOST_STEPS, SMALL = 500, 1e-3
"""Steps of L-BFGS after which a fit counts as not converged, and the largest entry of the gradient
(of the mean over images) at which it has converged."""
FEW_LABELS, SOME_LABELS = 100, 1_000
STARTS = 10
TRUSTED = 1_000
"""Trustworthiness takes time and memory by the square of the number of images: of a larger part it
is that of so many images, drawn once by a fixed seed."""
NEIGHBOURS = 5
_SEED = 20_260_501
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Probe(NamedTuple):
    """A logistic regression, the C that was chosen for it, and whether every fit converged."""

    model: "LogisticRegression"
    strength: float
    converged: bool


def probe_accuracy(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """1 where a linear probe of all training labels names the class, else 0; float32 (N,)."""
    return _hits(seen, 0)


def probe_accuracy_100(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """As `probe_accuracy`, with 100 training labels; NaN if there are fewer."""
    return _hits(seen, FEW_LABELS)


def probe_accuracy_1000(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """As `probe_accuracy`, with 1,000 training labels; NaN if there are fewer."""
    return _hits(seen, SOME_LABELS)


def probe_converged(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Share of the probes, in [0, 1], of which every fit of the grid converged."""
    found = [_probe(seen, count) for count in (0, FEW_LABELS, SOME_LABELS)]
    converged = [probe.converged for probe in found if probe is not None]
    return torch.tensor(np.mean(converged))


def kmeans_nmi(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Normalised mutual information (arithmetic mean) of clusters and classes, in [0, 1]."""
    from sklearn.metrics import normalized_mutual_info_score

    return _clustered(seen, normalized_mutual_info_score)


def kmeans_ari(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Adjusted Rand index of clusters and classes: 1 at best, 0 by chance."""
    from sklearn.metrics import adjusted_rand_score

    return _clustered(seen, adjusted_rand_score)


def kmeans_accuracy(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Accuracy, in [0, 1], of the best assignment of clusters to classes, one to one."""
    return _clustered(seen, assigned_accuracy)


def trustworthiness(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """How far the 5 nearest codes are near in pixels, in [0, 1] (Venna and Kaski 2001).

    NaN for fewer than 12 images, of which 5 neighbours are not less than half.
    """
    from sklearn.manifold import trustworthiness as trust

    pixels, codes = _array(seen.images.flatten(1)), _array(seen.codes)
    if len(codes) < 2 * NEIGHBOURS + 2:
        return _undefined()
    if len(codes) > TRUSTED:
        chosen = np.random.default_rng(_SEED).choice(len(codes), TRUSTED, replace=False)
        pixels, codes = pixels[chosen], codes[chosen]
    return _on_one_thread(lambda: float(trust(pixels, codes, n_neighbors=NEIGHBOURS)))


def active_units(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """See `latent.active_units`."""
    return torch.tensor(float(count_active(seen.codes)), dtype=torch.float64)


def kl_per_dimension(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over images and numbers of the code of KL(q(z_i|x) || N(0, 1)), in nats."""
    return seen.kl.double().mean()


def participation_ratio(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """(sum l)^2 / sum l^2 of the eigenvalues l of the codes' covariance: how many directions codes
    use, from 1 to their size; 0 for constant codes.

    With C the covariance this is trace(C)^2 / trace(C C), so that no eigenvalue is needed.
    """
    centred = seen.codes.double()
    centred = centred - centred.mean(dim=0)
    # Of the two Gram matrices, which share their eigenvalues other than 0, the smaller one.
    gram = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    squares = gram.square().sum()
    return gram.trace().square() / squares if squares > 0 else squares


def assigned_accuracy(labels: Labels, clusters: Labels) -> float:
    """Share of images in the class that their cluster is assigned to, for the assignment of
    clusters to classes, one to one, with the most hits (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    size = int(max(labels.max(), clusters.max())) + 1
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    hits: int = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return hits / len(labels)


def stratified(labels: Labels, count: int) -> NDArray[np.int64]:
    """`count` indices of labels (N,), each class by its share, in a fixed random order.

    Every class has one at least as long as `count` is not below the number of classes; a fixed seed
    draws them.
    """
    order = np.random.default_rng(_SEED).permutation(len(labels))
    shuffled = labels[order]
    # An image's turn is its place within its class, as a share: each class is used up evenly.
    turn = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        turn[members] = np.arange(len(members)) / len(members)
    chosen: NDArray[np.int64] = order[np.argsort(turn, kind="stable")[:count]]
    return chosen


def _hits(seen: Seen, count: int) -> Tensor:
    probe = _probe(seen, count)
    if probe is None:
        return _undefined()
    own = _inputs(seen.train.codes, seen.codes)
    called = _on_one_thread(lambda: probe.model.predict(own) == seen.labels.cpu().numpy())
    return called.float()


def _probe(seen: Seen, count: int) -> Probe | None:
    """The probe of `count` training labels (0: all); None if there are fewer.

    It is fitted once for all metrics and parts, with the C that names most validation images (the
    smallest one of several; without validation images C = 1).
    """
    labels = seen.train.labels.cpu().numpy()
    if count > len(labels) or len(np.unique(labels)) < 2:
        return None
    return seen.train.once(f"probe of {count} labels", lambda: _fitted(seen, labels, count))


def _fitted(seen: Seen, labels: Labels, count: int) -> Probe:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train = seen.train.codes
    fitted = _inputs(train, train)
    chosen = stratified(labels, count) if count else np.arange(len(labels))
    fitted, labels = fitted[chosen], labels[chosen]
    judged = seen.validation
    grid = STRENGTHS if judged is not None else (1.0,)
    converged, best, most = True, None, -1.0
    for strength in grid:
        model = LogisticRegression(C=strength, max_iter=MOST_STEPS, tol=SMALL)
        with threadpool_limits(1), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(fitted, labels)
        converged &= not any(issubclass(each.category, ConvergenceWarning) for each in said)
        share = 0.0
        if judged is not None:
            codes = _inputs(train, judged.codes)
            share = float(np.mean(model.predict(codes) == judged.labels.cpu().numpy()))
        if share > most:
            best, most = (model, strength), share
    assert best is not None
    return Probe(*best, converged)


def _inputs(train: Tensor, own: Tensor) -> Floats:
    """What a probe sees of codes (N, size): (N, k), standardised by training codes, without the
    numbers that are constant there. Of a collapsed code a column of zeros is left, so that the
    probe calls every image by the most frequent class."""
    array = _array(standardised(train, own)[1])
    return array if array.shape[1] else np.zeros((len(array), 1))


def _clustered(seen: Seen, compare: Callable[[Labels, Labels], float]) -> Tensor:
    """Compare classes with k-means clusters of the part's codes; NaN for fewer images than
    classes."""
    labels = seen.labels.cpu().numpy()
    classes = len(np.unique(labels))
    if len(labels) < classes or classes < 2:
        return _undefined()
    clusters = seen.once("k-means", lambda: _clusters(_array(seen.codes), classes))
    return torch.tensor(float(compare(labels, clusters)), dtype=torch.float64)


def _clusters(codes: Floats, classes: int) -> Labels:
    """The cluster (N,) of each code: Lloyd's k-means from 10 starts of k-means++."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # Collapsed codes have fewer distinct points than classes: the score then says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: NDArray[np.int32] = KMeans(classes, n_init=STARTS, random_state=0).fit_predict(codes)
    return found.astype(np.int64)


def _on_one_thread(compute: Callable[[], float | NDArray[np.bool_]]) -> Tensor:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return torch.from_numpy(np.asarray(compute()))


def _array(values: Tensor) -> Floats:
    array: Floats = values.cpu().double().numpy()
    return array


def _undefined() -> Tensor:
    return torch.tensor(torch.nan, dtype=torch.float64)
