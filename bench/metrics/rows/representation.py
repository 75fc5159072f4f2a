"""Rows of METRICS: what a code is worth as a representation."""

import math
from functools import partial

from bench.core.lazy import Lazy
from bench.metrics.base import Metric
from bench.metrics.seen import Need

LARGEST_CODE = 65_536
"""The largest latent size of a protocol."""
_CODES: frozenset[Need] = frozenset({"codes"})
_CLASSES: frozenset[Need] = frozenset({"codes", "labels"})
_FITTED: frozenset[Need] = frozenset({"codes", "labels", "train"})
_PROBED: frozenset[Need] = frozenset({"codes", "labels", "train", "validation"})
_PROBE = (
    "1 where an L2 logistic regression on standardised codes names the class, else 0: fitted to "
    "{} (C of 0.01, 0.1, 1 or 10, chosen on validation; at most 500 steps of L-BFGS)"
)
_PROBE_SOURCE = "Alain, Bengio 2017; as scikit-learn's LogisticRegression"
_CLUSTERS = "of k-means clusters of the codes (k = classes, 10 starts of k-means++) and classes: {}"
_share = partial(
    Metric,
    task="representation",
    higher_is_better=True,
    revision=1,
    unit="",
    decimals=4,
    bounds=(0.0, 1.0),
    transform="log_one_minus",
)
_number = partial(
    Metric,
    task="representation",
    higher_is_better=True,
    revision=1,
    unit="",
    decimals=2,
    transform="identity",
    per_image=False,
)


def _here(name: str) -> Lazy:
    return Lazy("bench.metrics.representation", name)


REPRESENTATION = (
    _share(
        id="probe_accuracy",
        title="Linear probe accuracy",
        short="probe",
        formula=_PROBE.format("all training codes"),
        source=_PROBE_SOURCE,
        needs=_PROBED,
        score=_here("probe_accuracy"),
    ),
    _share(
        id="probe_accuracy_1000",
        title="Linear probe accuracy, 1,000 labels",
        formula=_PROBE.format("1,000 training codes, stratified"),
        source=_PROBE_SOURCE,
        needs=_PROBED,
        score=_here("probe_accuracy_1000"),
    ),
    _share(
        id="probe_accuracy_100",
        title="Linear probe accuracy, 100 labels",
        formula=_PROBE.format("100 training codes, stratified"),
        source=_PROBE_SOURCE,
        needs=_PROBED,
        score=_here("probe_accuracy_100"),
    ),
    _share(
        id="probe_converged",
        title="Converged probes",
        detail=True,
        formula="share of the probes of which every fit ended within 500 steps",
        source="as scikit-learn's ConvergenceWarning",
        needs=_PROBED,
        score=_here("probe_converged"),
        per_image=False,
    ),
    _share(
        id="knn_accuracy",
        title="5-nearest-neighbour accuracy",
        short="5-NN",
        formula="share of images with the class of most of the 5 nearest standardised "
        "training codes",
        source="Cover, Hart 1967; of autoencoders: Sainburg, McInnes, Gentner 2021",
        needs=_FITTED,
        score=Lazy("bench.metrics.neighbours", "knn_accuracy"),
        per_image=False,
    ),
    _share(
        id="knn_accuracy_raw",
        title="5-nearest-neighbour accuracy, raw codes",
        detail=True,
        formula="share of images with the class of most of the 5 nearest training codes",
        source="Cover, Hart 1967; of autoencoders: Sainburg, McInnes, Gentner 2021",
        needs=_FITTED,
        score=Lazy("bench.metrics.neighbours", "knn_accuracy_raw"),
        per_image=False,
    ),
    _share(
        id="kmeans_nmi",
        title="k-means NMI",
        short="NMI",
        formula=_CLUSTERS.format("mutual information / arithmetic mean of the two entropies"),
        source="Strehl, Ghosh 2002; as scikit-learn's normalized_mutual_info_score",
        needs=_CLASSES,
        score=_here("kmeans_nmi"),
        per_image=False,
    ),
    _share(
        id="kmeans_ari",
        title="k-means ARI",
        detail=True,
        bounds=(-0.5, 1.0),
        formula=_CLUSTERS.format("Rand index, adjusted for chance"),
        source="Hubert, Arabie 1985; as scikit-learn's adjusted_rand_score",
        needs=_CLASSES,
        score=_here("kmeans_ari"),
        per_image=False,
    ),
    _share(
        id="kmeans_accuracy",
        title="k-means accuracy",
        formula=_CLUSTERS.format("accuracy of the best assignment of clusters to classes"),
        source="Kuhn 1955; as scipy's linear_sum_assignment",
        needs=_CLASSES,
        score=_here("kmeans_accuracy"),
        per_image=False,
    ),
    _share(
        id="trustworthiness",
        title="Trustworthiness",
        formula="1 - 2 / (N k (2N - 3k - 1)) x sum over the k = 5 nearest codes of how far they "
        "are outside of the k nearest images in pixels; of 1,000 images of a larger part",
        source="Venna, Kaski 2001; as scikit-learn's trustworthiness",
        needs=frozenset({"codes", "images"}),
        score=_here("trustworthiness"),
        per_image=False,
    ),
    _number(
        id="active_units",
        title="Active units",
        detail=True,
        bounds=(0.0, LARGEST_CODE),
        formula="how many numbers of the mean code have a variance over images above 0.01",
        source="Burda, Grosse, Salakhutdinov 2016, section 5",
        needs=_CODES,
        score=_here("active_units"),
    ),
    _number(
        id="kl_per_dimension",
        title="KL per dimension",
        higher_is_better=False,
        unit="nats",
        decimals=4,
        bounds=(0.0, math.inf),
        formula="mean over images and numbers of the code of KL(q(z_i|x) || N(0, 1)) = "
        "1/2 (mu^2 + sigma^2 - log sigma^2 - 1)",
        source="Kingma, Welling 2014, appendix B",
        needs=frozenset({"kl"}),
        score=_here("kl_per_dimension"),
    ),
    _number(
        id="participation_ratio",
        title="Participation ratio",
        bounds=(0.0, LARGEST_CODE),
        formula="(sum l)^2 / sum l^2 of the eigenvalues l of the codes' covariance",
        source="Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy, Ganguli 2017",
        needs=_CODES,
        score=_here("participation_ratio"),
    ),
)
