"""The winner of a study: a file that can be kept, read and trained again, and its records.

The records say how many trials chose their recipe. A resumed study may find the same winner again:
its runs are then the same trainings, so their records are kept and updated with the larger number.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from bench.benchmark.plan import Plan
from bench.core.errors import BadInput
from bench.core.identity import Name
from bench.core.paths import given_path
from bench.core.protocol import LatentDim, Scalar, load_protocol
from bench.core.recipes import BEST_OF, Recipe, budget
from bench.core.spec import RunRecord
from bench.core.store import Store, write_atomically
from bench.core.strict import STRICT, parse_strict, read_toml
from bench.models.settings import RECIPE_KEYS
from bench.records.files import enter
from bench.records.studies import STUDY_FILE, StudyRecord
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies
from bench.sweep.results import studies_folder, study_folder
from bench.sweep.trials import Ticket


@dataclass(frozen=True)
class WinnerFile:
    """The content of `winner.toml`: the recipe, its variant and data set, and the protocol."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    protocol: str
    protocol_fingerprint: str
    model: Name
    recipe: Recipe
    dataset: str = ""
    latent_dim: LatentDim | None = None
    settings: Mapping[str, Scalar] = field(default_factory=dict)


def winner_text(plan: StudyPlan, winner: Ticket, recipe: str) -> str:
    """The file's content in TOML."""
    spec = plan.base
    size = "" if spec.latent_dim is None else f"latent_dim = {spec.latent_dim}\n"
    dataset = plan.request.dataset and spec.dataset
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in winner.settings.items())
    return (
        f"# {recipe}: trial {winner.number} of study {plan.name}\n"
        f"protocol = {json.dumps(plan.request.protocol_reference)}\n"
        f"protocol_fingerprint = {json.dumps(spec.protocol_fingerprint)}\n"
        f"dataset = {json.dumps(dataset)}\n"
        f"model = {json.dumps(spec.model)}\n{size}"
        f"recipe = {json.dumps(recipe)}\n\n[settings]\n{lines}"
    )


def write_winner(store: Store, study: str, text: str) -> Path:
    """Write it to the study's folder."""
    path = study_folder(store, study) / "winner.toml"
    write_atomically(path, text.encode())
    return path


def write_study(store: Store, record: StudyRecord) -> None:
    """Write what the study found, for `registry/studies/`, to its folder."""
    write_atomically(study_folder(store, record.study) / STUDY_FILE, record.to_json())


def winner_path(given: str, store: Store) -> Path:
    """The file given by `--winner`: a path, or the name of a study on this store.

    Raises BadInput for anything else.
    """
    path = given_path(given, "--winner")
    if path.name == given and given != "..":
        kept = study_folder(store, given) / "winner.toml"
        if kept.exists():
            return kept
    if not path.exists():
        known = sorted(path.parent.name for path in studies_folder(store).glob("*/winner.toml"))
        raise BadInput(
            f"--winner {given}: neither a file nor a study with a winner here; those are "
            f"{', '.join(known) or 'none'}"
        )
    return path


def read_winner(path: Path) -> WinnerFile:
    """Read a winner's file; BadInput naming the file and the key of anything invalid."""
    try:
        data = read_toml(path, str(path))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    return parse_strict(WinnerFile, data, str(path))


def plan_winner(path: Path, store: Store, device: str = "auto", threads: int = 1) -> Plan:
    """The runs of a winner's recipe and of the default, with the protocol's seeds.

    Raises BadInput if the protocol has changed since the search.
    """
    found = read_winner(path)
    protocol = load_protocol(found.protocol)
    if protocol.fingerprint != found.protocol_fingerprint:
        raise BadInput(
            f"{path}: protocol {found.protocol} has changed since (fingerprint "
            f"{found.protocol_fingerprint}, now {protocol.fingerprint}); search again"
        )
    request = SweepRequest(
        protocol,
        (found.model,),
        () if found.latent_dim is None else (found.latent_dim,),
        protocol_reference=found.protocol,
        dataset=found.dataset,
        device=device,
        threads=threads,
        native=found.latent_dim is None,
    )
    (study,) = plan_studies(request, store)
    unknown = [k for k in found.settings if k not in RECIPE_KEYS | set(study.base.hyperparameters)]
    if unknown:
        raise BadInput(f"{path}: settings.{unknown[0]}: {found.model} has no such setting")
    return study.with_recipe(found.settings, found.recipe, store)


def with_larger_budget(plan: Plan, store: Store) -> Plan:
    """Raise the number of trials in a plan's records to the plan's, where theirs is smaller."""
    labels = {spec.run_key: spec.recipe for spec in plan.specs}
    done = {
        key: _renamed(record, labels[key], store)
        if 0 < budget(record.spec.recipe) < budget(labels[key])
        else record
        for key, record in plan.done.items()
    }
    return dataclasses.replace(plan, done=done)


def best_of(record: RunRecord, trials: int, store: Store) -> RunRecord:
    """Mark a run of the default recipe: a study of so many trials found nothing better."""
    if record.facts.get(BEST_OF, 0) >= trials or record.status != "finished":
        return record
    facts = {**record.facts, BEST_OF: float(trials)}
    return _on_board(dataclasses.replace(record, facts=facts), store)


def _renamed(record: RunRecord, recipe: str, store: Store) -> RunRecord:
    spec = dataclasses.replace(record.spec, recipe=recipe)
    return _on_board(dataclasses.replace(record, spec=spec), store)


def _on_board(record: RunRecord, store: Store) -> RunRecord:
    enter(store.records, record)
    return record
