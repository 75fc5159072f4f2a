"""A command that repeats a run is parsed back into that run."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from bench.benchmark.plan import Request, plan
from bench.benchmark.reproduction import chosen_claims, plans_of
from bench.cli import app
from bench.core.commands import Runs, protocol_reference, repeat_command
from bench.core.protocol import SplitConfig, load_protocol, shipped_protocols
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import load_splits
from bench.sweep.plan import SweepRequest, plan_studies, study_name


def _options(command: str) -> dict[str, object]:
    """The options of a command line as Typer reads them."""
    program, name, *rest = shlex.split(command)
    assert program == "bench"
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
    assert found is not None, name
    return dict(found.make_context(name, rest).params)


def _planned(command: str, store: Store) -> tuple[RunSpec, ...]:
    """The runs that `bench run` would make of a command line."""
    given = _options(command)
    sizes = ",".join(given["latent_dim"] or [])  # type: ignore[call-overload]
    seeds = ",".join(given["seed"] or [])  # type: ignore[call-overload]
    request = Request(
        load_protocol(str(given["protocol"])),
        models=tuple(given["model"] or ()),  # type: ignore[call-overload]
        latent_dims=tuple(int(size) for size in sizes.split(",") if size),
        native=bool(given["native"]),
        seeds=tuple(int(seed) for seed in seeds.split(",") if seed),
        dataset=str(given["dataset"] or ""),
    )
    return plan(request, store).specs


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [
        ("quick", {"models": ("vae",), "latent_dims": (8,), "seeds": (2,)}),
        ("quick", {"models": ("cnn_ae",), "native": True, "seeds": (0,)}),
        ("quick", {"models": ("fc_ae",), "latent_dims": (32,), "dataset": "mnist_mini"}),
        ("quick_mnist", {"models": ("pca",), "latent_dims": (8,)}),
        ("classifier_quick", {"models": ("mlp_classifier",), "seeds": (1,)}),
    ],
)
def test_a_run_is_planned_again(protocol: str, wanted: dict[str, object], store: Store) -> None:
    spec = plan(Request(load_protocol(protocol), **wanted), store).specs[0]  # type: ignore[arg-type]
    (again,) = _planned(repeat_command(spec), store)
    assert again == spec


def test_images_of_ones_own_are_named(store: Store, tmp_path: Path) -> None:
    few = load_splits("fashion_mnist_mini", SplitConfig()).train
    path = tmp_path / "a few; of mine.npz"
    np.savez(path, x_train=few.images[:300], y_train=few.labels[:300])
    request = Request(load_protocol("quick"), ("pca",), (8,), dataset=f"npz:{path}")
    spec = plan(request, store).specs[0]
    (again,) = _planned(repeat_command(spec), store)
    assert again == spec


def test_a_file_of_ones_own_is_named_by_its_protocol(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = plan(Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=(1,)), store).specs[0]
    monkeypatch.chdir(Path(tiny_protocol).parent)
    (again,) = _planned(repeat_command(spec), store)
    assert again == spec


def test_a_tuned_run_is_that_of_its_studys_winner(store: Store) -> None:
    for dataset in ("", "mnist_mini"):
        request = SweepRequest(load_protocol("quick"), ("fc_ae",), (8,), dataset=dataset)
        (study,) = plan_studies(request, store)
        tuned = dataclasses.replace(study.base, recipe="tuned (30 trials)")
        name = study_name(request.protocol, study.base)
        assert _options(repeat_command(tuned))["winner"] == name == study.name
        second = dataclasses.replace(study.base, recipe="tuned (30 trials, study 2)")
        assert _options(repeat_command(second))["winner"] == f"{name}.2"


def test_a_published_figure_is_reproduced_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the bundled images: the official files need not be here."""
    monkeypatch.setattr("bench.benchmark.plan.dataset_reference", lambda _: "fashion_mnist_mini")
    for first in (True, False):
        for made in plans_of(chosen_claims(["cnn_ae"], first), store, "cpu", 1):
            spec = next(spec for spec in made.specs if spec.model == "cnn_ae")
            command = repeat_command(spec)
            if spec.protocol in ("s1", "s1_text"):
                assert f"--protocol origins/{spec.protocol} " in command
                continue
            given = _options(command)
            claims = chosen_claims(list(given["names"]), bool(given["first_epochs"]))  # type: ignore[call-overload]
            assert spec.protocol in {claim.protocol.name for claim in claims}


def test_every_shipped_protocol_is_named_as_the_option_takes_it() -> None:
    for reference in shipped_protocols():
        assert protocol_reference(load_protocol(reference).name) == reference


def test_several_runs_are_one_command() -> None:
    runs = Runs("quick", ["fc_ae", "vae"], ["32", "native", "8", "32"], [2, 0, 2])
    assert runs.command == (
        "bench run --protocol quick --model fc_ae --model vae --latent-dim 8,32 --native --seed 0,2"
    )
