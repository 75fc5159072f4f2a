"""plan(): every name and setting of a protocol is checked before anything is trained."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records, sound_record


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"fc_ae"]', '"fc_aee"]', ["models", "fc_aee", "fc_ae"]),
        ("fashion_mnist_mini", "fashion_mnist_min", ["dataset", "fashion_mnist_mini"]),
        ("[split]", "[hyperparameters.vae]\nbet = 1.0\n[split]", ["hyperparameters.vae", "beta"]),
        ("[split]", '[hyperparameters.vae]\nbeta = "x"\n[split]', ["hyperparameters.vae", "beta"]),
        ("[split]", "[hyperparameters.vae]\nbeta = -1.0\n[split]", ["vae: beta must be", "-1.0"]),
        ("[split]", "[hyperparameters.va]\nbeta = 1.0\n[split]", ["hyperparameters.va", "vae"]),
        ("[split]", '[evaluation]\nmetrics = ["mse", "sim"]\n[split]', ["metrics", "ssim"]),
        ("[split]", "[evaluation.ssim]\nwindow = 51\n[split]", ["ssim.window", "28x28"]),
        (
            "[split]",
            '[[expected]]\nmodel = "fc_a"\nmetric = "mse"\nvalue = 1\ntolerance = 0.1\n[split]',
            ["expected.0", "fc_ae"],
        ),
    ],
)
def test_a_wrong_name_or_setting_is_named_with_file_and_key(
    tiny_protocol: str, store: Store, old: str, new: str, words: list[str]
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        plan(Request(load_protocol(tiny_protocol)), store)
    for word in ["tiny.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("mode", [["--dry-run"], []], ids=str)
def test_a_value_that_a_model_does_not_allow_ends_the_command_in_one_line(
    tiny_protocol: str, store: Store, mode: list[str]
) -> None:
    with Path(tiny_protocol).open("a") as stream:
        stream.write("[hyperparameters.cnn_classifier]\nshift = 50\n")
    result = CliRunner().invoke(app, ["run", "-p", tiny_protocol, *mode])
    assert result.exit_code == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert "model cnn_classifier: shift must be a whole number from 0 to 11, got 50" in line
    assert result.stdout == ""
    assert not list(iter_records(store.records))


def test_closed_forms_run_once_and_the_others_once_a_seed(tiny_protocol: str, store: Store) -> None:
    made = plan(Request(load_protocol(tiny_protocol), latent_dims=(4, 5)), store)
    runs = [(spec.model, spec.latent_dim, spec.seed) for spec in made.specs]
    assert len(set(runs)) == len(runs) == 2 * (1 + 1 + 2)
    assert made.missing == list(made.specs)


def test_a_damaged_record_is_run_again(
    tiny_protocol: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request(load_protocol(tiny_protocol), ("pca",))
    (spec,) = plan(request, store).specs
    record = execute(spec, store, ignore_epochs)
    assert not plan(request, store).missing
    (store.records / spec.run_key / "record.json").write_text("{")
    assert plan(request, store).missing == [spec]
    assert "running it again" in caplog.text
    again = execute(spec, store, ignore_epochs)
    assert again.scores == record.scores
    assert sound_record(store.records, spec) == again
