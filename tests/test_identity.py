"""Names and digests."""

import pytest

from bench.core.errors import BadInput
from bench.core.identity import checked_name, chosen_settings, digest, slug
from bench.core.protocol import EvaluationConfig, SplitConfig, SsimSettings, TrainConfig


@pytest.mark.parametrize("name", ["a", "quick", "csv.my-digits_2", "0" * 64])
def test_good_names_pass(name: str) -> None:
    assert checked_name("name", name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "a/b", "a..b", "a b", "a\n", "ä", "0" * 65, "../x", "a\0"]
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="expected"):
        checked_name("name", name)


@pytest.mark.parametrize("text", ["My Photos (2)", "..", "", "../../etc", "Ünï", "a" * 200, "-x-"])
def test_a_slug_is_always_a_good_name(text: str) -> None:
    assert checked_name("slug", slug(text))


def test_a_digest_depends_on_values_and_not_on_order() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": float("nan")})


def test_only_what_differs_from_a_default_is_identity() -> None:
    """So that a setting added later leaves every committed digest as it is."""
    assert chosen_settings(SplitConfig()) == {}
    recipe = TrainConfig(epochs=3, batch_size=8, lr=0.1, patience=4, keep="best")
    assert chosen_settings(recipe) == {"epochs": 3, "batch_size": 8, "lr": 0.1, "patience": 4}
    nested = EvaluationConfig(ssim=SsimSettings(window=9))
    assert chosen_settings(nested) == {"ssim": {"window": 9}}
