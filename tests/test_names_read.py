"""Names that are read from files are held to the rule for names before they are used."""

import json
from pathlib import Path

import pytest
from sweep_support import Scripted, Silent, make_plan, open_book

from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput, CheckFailed
from bench.core.identity import digest
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import damage_of, iter_records
from bench.sweep.loop import Search
from bench.sweep.results import iter_trials
from bench.sweep.winner import read_winner

HOSTILE = ("../x", "a/b", "", "a\nb", "\x1b[2J", "a|b", "A", "x" * 65, "a..b", "\u202ea", "/etc")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_protocol_has_a_name(tmp_path: Path, tiny_protocol: str, name: str) -> None:
    path = tmp_path / "mine.toml"
    text = Path(tiny_protocol).read_text()
    path.write_text(text.replace('name = "tiny"', f"name = {json.dumps(name)}"))
    with pytest.raises(BadInput, match=r"mine\.toml: name: .* is not a name we can use") as caught:
        load_protocol(str(path))
    assert "\n" not in str(caught.value)
    path.write_text(text.replace('"pca"', json.dumps(name)))
    with pytest.raises(BadInput, match=r"mine\.toml: models\.1: .* is not a name we can use"):
        load_protocol(str(path))


@pytest.fixture
def recorded(store: Store, tiny_protocol: str) -> Store:
    (spec,) = plan(Request(load_protocol(tiny_protocol), ("mean_image",)), store).specs
    execute(spec, store, ignore_epochs)
    return store


@pytest.mark.parametrize("name", [*HOSTILE, "tuned (x trials)", "tuned (3 trials) "])
@pytest.mark.parametrize("key", ["protocol", "definition.name", "recipe", "dataset_label"])
def test_a_record_with_another_name_is_damaged(recorded: Store, key: str, name: str) -> None:
    """Rightly sealed, and still refused."""
    (path,) = recorded.records.glob("*/boards/*.json")
    document = json.loads(path.read_text())
    spec = document["spec"]
    if key == "definition.name":
        spec["definition"]["name"] = name
    else:
        spec[key] = name
    _seal(path, document)
    with pytest.raises(CheckFailed, match="is damaged") as caught:
        list(iter_records(recorded.records))
    assert damage_of(recorded.records, path.parent.parent.name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("junk", [{}, {"spec": 1}, {"spec": {}}, {"spec": [], "facts": 3}])
@pytest.mark.parametrize("name", ["record.json", "scores.json", "boards"])
def test_junk_with_the_right_digest_is_damaged(
    recorded: Store, junk: dict[str, object], name: str
) -> None:
    (path,) = recorded.records.glob("*/boards/*" if name == "boards" else f"**/{name}")
    _seal(path, {"run_key": path.relative_to(recorded.records).parts[0], **junk})
    with pytest.raises(CheckFailed, match="doctor --fix"):
        list(iter_records(recorded.records))


def _seal(path: Path, document: dict[str, object]) -> None:
    content = {"schema_version": 2, **{k: v for k, v in document.items() if k != "digest"}}
    path.write_text(json.dumps({**content, "digest": digest(content)}))


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "a\nb", "x" * 251, "a..b"])
def test_a_trial_knows_its_study(store: Store, tiny_protocol: str, name: str) -> None:
    book = open_book(make_plan(tiny_protocol, store, trials=1), store)
    list(Search(book, store, Scripted(), Silent()).events())  # type: ignore[arg-type]
    (path,) = (store.mlruns / "studies" / book.name / "trials").glob("*.json")
    content = json.loads(path.read_text())
    _seal(path, {**content, "study": name})
    with pytest.raises(CheckFailed, match=r"is damaged .*not the name of a study"):
        list(iter_trials(store, book.name))


@pytest.mark.parametrize("recipe", ["x", "tuned (many trials)", "|", "\x1b"])
def test_a_winner_has_a_recipe(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "winner.toml"
    path.write_text(
        'protocol = "quick"\nprotocol_fingerprint = "0"\nmodel = "fc_ae"\n'
        f"recipe = {json.dumps(recipe)}\n"
    )
    with pytest.raises(BadInput, match=r"winner\.toml: recipe: .* is no recipe"):
        read_winner(path)
