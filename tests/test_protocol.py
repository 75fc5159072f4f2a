"""Protocol files: strict reading, clear errors, identities."""

import dataclasses
import re
from pathlib import Path

import pytest

from bench.core.errors import BadInput
from bench.core.protocol import load_protocol, protocol_text, shipped_protocols
from bench.core.seeds import AdaptiveSeeds
from bench.models.zoo import MODELS

GOOD = """
name = "mine"
description = "d"
dataset = "fashion_mnist_mini"
latent_dims = [8]
seeds = [0]
[split]
validation = 100
[train]
epochs = 2
batch_size = 64
lr = 0.001
"""


def _write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", list(shipped_protocols()))
def test_shipped_protocols_load_and_are_named_after_their_file(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == Path(name).name
    assert protocol.ranked == (not name.startswith("origins/"))


def test_there_are_the_protocols_that_the_readme_promises() -> None:
    assert {"quick", "quick_mnist", "fashion_mnist", "mnist"} <= set(shipped_protocols())


def test_quick_and_the_readme_say_which_variants_are_too_expensive_for_it() -> None:
    """A variant that is added later need not be among them: people name it with --model."""
    quick = load_protocol("quick")
    assert load_protocol("quick_mnist").models == quick.models
    words = set(re.findall(r"\w+", quick.description))
    told = words & MODELS.keys()
    assert told and not told & set(quick.models)
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    sentence = readme.partition("too expensive for `quick`:")[2].partition(";")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == told


def test_a_persons_own_file_is_read(tmp_path: Path) -> None:
    protocol = load_protocol(_write(tmp_path, GOOD))
    assert (protocol.name, protocol.train.epochs, protocol.split.validation) == ("mine", 2, 100)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = [0]", "seeds = [0]\nsede = 1", ["sede", "unknown key"]),
        ("epochs = 2", 'epochs = "2"', ["train.epochs", "integer", "'2'"]),
        ("epochs = 2", "epochs = 2.5", ["train.epochs", "integer"]),
        ("epochs = 2", "epochs = true", ["train.epochs", "integer"]),
        ("epochs = 2", "epochs = 0", ["train.epochs", "greater than or equal to 1"]),
        ("lr = 0.001", "lr = -1.0", ["train.lr", "greater than 0"]),
        ("lr = 0.001", "lr = nan", ["train.lr"]),
        ("lr = 0.001", "lr = 0.001\nmomentum = 0.9", ["train.momentum", "unknown key"]),
        ("lr = 0.001", "", ["train.lr", "missing"]),
        ("latent_dims = [8]", "latent_dims = [0]", ["latent_dims.0", "got 0"]),
        ("latent_dims = [8]", "latent_dims = [8, 8]", ["latent_dims", "once"]),
        ("latent_dims = [8]", "latent_dims = []", ["latent_dims", "at least one"]),
        ("seeds = [0]", "seeds = []", ["seeds", "must not be empty"]),
        ("seeds = [0]", "seeds = [-1]", ["seeds.0"]),
        ("seeds = [0]", "seeds = [0, 0]", ["seeds", "once"]),
        ("seeds = [0]", "seeds = 3", ["seeds: must be a list", "{ least = 3, most = 10"]),
        ("[0]", "{ least = 2, most = 9, until = 0.02 }", ["seeds.least", "equal to 3", "got 2"]),
        ("[0]", "{ least = 3, most = 2, until = 0.02 }", ["seeds: most", "at least 3", "got 2"]),
        ("[0]", "{ least = 3, most = 1001, until = 0.02 }", ["seeds.most", "1000"]),
        ("[0]", "{ least = 3, most = 9, until = 0 }", ["seeds.until", "greater than 0"]),
        ("[0]", "{ least = 3, most = 9, until = inf }", ["seeds.until", "finite"]),
        ("[0]", "{ least = 3, until = 0.02 }", ["seeds.most: missing"]),
        ("[0]", "{ least = 3, most = 9, until = 0.02, x = 1 }", ["seeds.x", "unknown key"]),
        ("[0]", "{ least = true, most = 9, until = 0.02 }", ["seeds.least", "integer"]),
        ('name = "mine"', 'name = "../mine"', ["is not a name we can use", "../mine"]),
        ('name = "mine"', 'name = "a..b"', ["is not a name we can use"]),
        ("validation = 100", "validation = 1.5", ["split.validation"]),
        ("validation = 100", "validation = 0", ["train.keep", "validation"]),
        ("seeds = [0]", 'seeds = [0]\nselection_metric = "ms"', ["selection_metric", "mse"]),
        ("seeds = [0]", 'seeds = [0]\ntask = "regression"', ["task", "reconstruction"]),
        ("epochs = 2", "epochs = ", ["not a TOML file"]),
        ('name = "mine"', 'name = "quick"', ["name", "shipped", "another name"]),
        ('name = "mine"', 'name = "mine"\nsource = "x"', ["source", "unknown key"]),
        ("[split]", "[hyperparameters]\nvae = { beta = nan }\n[split]", ["vae.beta", "finite"]),
        ("[split]", "[hyperparameters]\nvae = { beta = [1] }\n[split]", ["vae.beta", "number"]),
        ("[split]", "[evaluation.ssim]\nwindow = 8\n[split]", ["evaluation.ssim.window", "odd"]),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    path = _write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load_protocol(path)
    message = str(caught.value)
    assert "mine.toml" in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_adaptive_seeds_are_read_and_need_validation_images(tmp_path: Path) -> None:
    adaptive = GOOD.replace("[0]", "{ least = 3, most = 10, until = 0.02 }")
    assert load_protocol(_write(tmp_path, adaptive)).seeds == AdaptiveSeeds(3, 10, 0.02)
    blind = adaptive.replace("validation = 100", "validation = 0").replace(
        "[split]", "ranked = false\n[split]"
    )
    with pytest.raises(BadInput, match=r"mine\.toml: seeds: needs validation images"):
        load_protocol(_write(tmp_path, blind.replace("lr = ", 'keep = "last"\nlr = ')))


def test_the_seeds_of_a_shipped_ranked_protocol_cannot_be_chosen(tmp_path: Path) -> None:
    """Rows of a copy stand in the same table: its seeds would be those that came out well."""
    quick = protocol_text("quick")
    assert load_protocol(_write(tmp_path, quick)).name == "quick"
    with pytest.raises(BadInput, match="the name of a shipped protocol with other settings"):
        load_protocol(_write(tmp_path, re.sub(r"(?m)^seeds = .*", "seeds = [4, 7, 9]", quick)))


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean quick"):
        load_protocol("quik")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.toml"):
        load_protocol(str(tmp_path / "gone.toml"))


def test_the_fingerprint_covers_what_makes_rows_comparable_and_nothing_else() -> None:
    protocol = load_protocol("quick")
    adaptive = AdaptiveSeeds(3, 10, 0.02)
    for seeds in ((7,), adaptive):
        same = dataclasses.replace(
            protocol, name="other", seeds=seeds, latent_dims=(5,), models=("pca",), description="x"
        )
        assert same.fingerprint == protocol.fingerprint
    for field, value in {
        "train": dataclasses.replace(protocol.train, epochs=protocol.train.epochs + 1),
        "split": dataclasses.replace(protocol.split, seed=1),
        "selection_metric": "ssim",
        "hyperparameters": {"vae": {"beta": 1.0}},
    }.items():
        assert dataclasses.replace(protocol, **{field: value}).fingerprint != protocol.fingerprint
