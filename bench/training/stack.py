"""fit_together(): seeds of one variant at one size, trained as one network.

The passes through the network are taken together; all else is each member's own: its weights and
optimiser, its order of images and its noise, validation, best epoch, patience, divergence, stop and
checkpoint. A member that ends leaves the stack. Results are those of `fit`, bit for bit.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from bench.models.base import ImageModel
from bench.models.stacking import stacked
from bench.training.gradients import gradients_of
from bench.training.train import (
    EpochHook,
    FitConfig,
    FitData,
    FitResult,
    Training,
    adam_epsilon,
    epoch_order,
    gathered,
    learning_rate,
)


def fit_together(
    models: Sequence[ImageModel],
    data: FitData,
    configs: Sequence[FitConfig],
    hooks: Sequence[EpochHook],
) -> Iterator[tuple[int, FitResult]]:
    """Train each of `models` in place, as `fit` does; yields their places and results as they end.

    Models, configurations and hooks are those of runs that differ only by seed, of a variant that
    stacks (`Variant.stacks`), on the CPU. Members that resume from different epochs train one group
    after the other. `seconds` of a member is its share of the time of its stack.
    """
    members = [
        _Member(place, Training(model, data, config, hook))
        for place, (model, config, hook) in enumerate(zip(models, configs, hooks, strict=True))
    ]
    by_epoch = sorted(members, key=lambda member: member.training.state.epoch)
    for _, group in groupby(by_epoch, key=lambda member: member.training.state.epoch):
        yield from _train(list(group))


class _Member:
    """A training with the generator of its noise."""

    def __init__(self, place: int, training: Training) -> None:
        self.place, self.training = place, training
        # Its training has just seeded or restored the global generator.
        self.generator = torch.Generator()
        self.generator.set_state(torch.get_rng_state())
        training.random = self._random

    def _random(self) -> Mapping[str, Tensor]:
        return {"cpu": self.generator.get_state()}


def _train(group: list[_Member]) -> Iterator[tuple[int, FitResult]]:
    """Train members at the same epoch to their ends, in a new stack whenever one has left."""
    while True:
        ended = [member for member in group if member.training.is_over]
        group = [member for member in group if not member.training.is_over]
        for member in ended:
            yield member.place, member.training.result()
        if not group:
            return
        stack = _Stack(group)
        while not any(member.training.is_over for member in group):
            for member, values in zip(group, stack.train_epoch(), strict=True):
                member.training.end_epoch(values)


class _Stack:
    """The members of a group as one network."""

    def __init__(self, group: Sequence[_Member]) -> None:
        self._trainings = [member.training for member in group]
        models = [training.model for training in self._trainings]
        self._model = stacked(models, [member.generator for member in group])
        self._compute = gradients_of(self._model, models)

    def train_epoch(self) -> list[dict[str, float]]:
        """One pass of every member over the training images; their mean loss terms and rate."""
        first, size = self._trainings[0], len(self._trainings)
        recipe, data, epoch = first.config.train, first.data.train, first.state.epoch
        per_epoch = recipe.steps_per_epoch(len(data))
        step, seen = epoch * per_epoch, 0
        sums: dict[str, Tensor] = {}
        orders = torch.stack(
            [epoch_order(len(data), recipe, t.config.seed, epoch) for t in self._trainings]
        )
        optimizers = [training.optimizer for training in self._trainings]
        self._model.train()
        started = time.perf_counter()
        for chosen in orders.split(recipe.batch_size, dim=1):
            images = gathered(data.images, chosen.flatten()).unflatten(0, chosen.shape)
            terms = self._compute(images, data.labels)
            rate, epsilon = learning_rate(recipe, step, per_epoch), adam_epsilon(recipe, step)
            for optimizer in optimizers:
                optimizer.step(rate, epsilon)
            for name, term in terms.items():
                sums.setdefault(name, torch.zeros_like(term)).add_(term, alpha=chosen.shape[1])
            seen, step = seen + chosen.shape[1], step + 1
        means = {f"train/{name}": (total / seen).tolist() for name, total in sums.items()}
        took = time.perf_counter() - started
        for training in self._trainings:
            training.state.seconds += took / size
            training.state.images += seen
        last = {"train/lr": learning_rate(recipe, step - 1, per_epoch)}
        return [{name: means[name][place] for name in means} | last for place in range(size)]
