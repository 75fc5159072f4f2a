"""Checks that a protocol can be carried out (names, tasks, images) before training starts."""

import contextlib
import math
from collections.abc import Iterable, Iterator

import numpy as np

from bench.core.errors import BadInput
from bench.core.protocol import WHOLE_LOSS, Protocol
from bench.core.spec import SplitSizes
from bench.core.tasks import FURTHER_TASKS, TASKS
from bench.data import SearchSplits
from bench.data.limits import refuse_if_too_large
from bench.metrics import METRICS, metrics_for
from bench.models.zoo import checked_hyperparameters, variant


@contextlib.contextmanager
def said_of(protocol: Protocol, key: str) -> Iterator[None]:
    """Prefix an error about a value with the protocol's file and `key`."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{protocol.source}: {key}: {error}" if key else str(error)) from None


def check_names(protocol: Protocol) -> None:
    """Check that every name in a protocol is known; BadInput with its file and key."""
    for name in protocol.models:
        with said_of(protocol, "models"):
            variant(name)
    for name in protocol.evaluation.metrics:
        with said_of(protocol, "evaluation.metrics"):
            _check_metric(name)
            _check_task_of(name, protocol)
    for name in protocol.evaluation.tasks:
        if FURTHER_TASKS[name].judges != TASKS[protocol.task].judges:
            raise BadInput(
                f"{protocol.source}: evaluation.tasks: {name} measures "
                f"{FURTHER_TASKS[name].judges}s, not the models of {protocol.task}; remove it"
            )
    with said_of(protocol, "selection_metric"):
        _check_selects(protocol.selection_metric, protocol)
    for name, given in protocol.hyperparameters.items():
        with said_of(protocol, f"hyperparameters.{name}"):
            checked_hyperparameters(name, given)
    for index, expected in enumerate(protocol.expected):
        with said_of(protocol, f"expected.{index}"):
            variant(expected.model)
            if expected.metric != WHOLE_LOSS:
                _check_metric(expected.metric)


def check_numbers(latent_dims: Iterable[int], seeds: Iterable[int], threads: int) -> None:
    """Check sizes, seeds and threads that were given in Python; commands check their options."""
    ranges = (
        ("latent_dims", latent_dims, 1, 65_536),
        ("seeds", seeds, 0, 2**31 - 1),
        ("threads", (threads,), 1, 256),
    )
    for name, values, low, high in ranges:
        for value in values:
            if not isinstance(value, int) or not low <= value <= high:
                raise BadInput(f"{name}: {value!r} is impossible; expected {low} to {high}")


def _check_metric(name: str) -> None:
    if name not in METRICS:
        raise METRICS.missing(name)


def _check_task_of(metric: str, protocol: Protocol) -> None:
    if metric not in metrics_for(protocol.task):
        fitting = ", ".join(metrics_for(protocol.task))
        raise BadInput(f"{metric} does not score {protocol.task}; choose among {fitting}")


def _check_selects(metric: str, protocol: Protocol) -> None:
    """Only metrics with one value per image can rank: ranks and intervals resample images."""
    if not METRICS[metric].selects:
        why = "is one value for a whole set of images"
        if METRICS[metric].per_image:
            why = "needs codes or training images"
        fitting = ", ".join(row.id for row in metrics_for(protocol.task).values() if row.selects)
        raise BadInput(f"{metric} {why} and cannot select or rank; choose among {fitting}")


def check_tasks(models: Iterable[str], protocol: Protocol) -> None:
    """Check that the protocol's task can judge every variant; BadInput names one it cannot."""
    for name in models:
        tasks = variant(name).tasks
        if protocol.task not in tasks:
            raise BadInput(
                f"model {name} is for {', '.join(tasks)}, {protocol.source} for "
                f"{protocol.task}; choose another model or protocol"
            )


def check_images(protocol: Protocol, dataset: str, splits: SearchSplits) -> None:
    """Check that the images of a data set can be scored under the protocol; BadInput says why."""
    _check_windows(protocol, splits.image_shape)
    _check_classes(protocol, dataset, len(splits.class_names))
    if TASKS[protocol.task].least_classes:
        _check_each_class(dataset, splits)


def check_memory(sizes: SplitSizes, workers: int) -> None:
    """Check that so many workers of this machine can hold the images; BadInput says their need."""
    images = sizes.train + sizes.validation + sizes.test
    refuse_if_too_large("the data set", images * math.prod(sizes.image_shape), workers)


def _check_windows(protocol: Protocol, image_shape: tuple[int, int, int]) -> None:
    """SSIM needs images at least as large as its window."""
    smallest = min(image_shape[1:])
    for key in ("ssim", "ssim_gaussian"):
        window = getattr(protocol.evaluation, key).window
        if key in protocol.evaluation.metrics and window > smallest:
            raise BadInput(
                f"{protocol.source}: evaluation.{key}.window: {window} is larger than the images "
                f"({image_shape[1]}x{image_shape[2]}); make it smaller or leave {key} out in a "
                "protocol of your own, or enlarge images of your own with --image-size"
            )


def _check_each_class(dataset: str, splits: SearchSplits) -> None:
    """A class without a training image cannot be learned."""
    counts = np.bincount(splits.train.labels, minlength=len(splits.class_names))
    missing = [name for name, count in zip(splits.class_names, counts, strict=True) if not count]
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise BadInput(
            f"{dataset}: {len(missing)} of {len(counts)} classes have no training image "
            f"({listed}); a classifier needs some of every class: give more images of them"
        )


def _check_classes(protocol: Protocol, dataset: str, classes: int) -> None:
    """Classification needs at least two classes, and some metrics of autoencoders need labels."""
    if classes < TASKS[protocol.task].least_classes:
        raise BadInput(
            f"{dataset} has no classes to tell apart, which {protocol.source} needs; "
            "choose a data set with labels"
        )
    for name in protocol.evaluation.metrics:
        if "labels" in METRICS[name].needs and classes < 2:
            raise BadInput(
                f"{protocol.source}: evaluation.metrics: {name} needs labels, and {dataset} "
                "has no classes to tell apart; leave it out or choose a data set with labels"
            )
