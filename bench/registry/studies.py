"""`registry/studies/`: how the tuned recipes of the ledger were chosen.

"default" is the recipe of the protocol alone. A row with a recipe such as "tuned (30 trials)" needs
a study with at least so many trials, whose winner gives the row's configuration: a `winner.toml`
that somebody wrote has none.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core.errors import BenchError, CheckFailed
from bench.core.protocol import known_protocols
from bench.core.recipes import budget
from bench.core.store import Store
from bench.leaderboard.ledger import Ledger, LedgerRow, configuration_of
from bench.metrics import METRICS
from bench.models.settings import with_settings
from bench.records.studies import CURE_HERE, STUDY_FILE, StudyRecord, StudyTrial, read_study

FOLDER = "studies"


def check_studies(registry: Path, ledger: Ledger) -> None:
    """Raise CheckFailed for a tuned row that no committed study explains, and for a study that is
    not sound in itself or explains no row."""
    studies = dict(_committed(registry))
    tuned = [row for row in ledger if budget(row.recipe)]
    for name, study in studies.items():
        if why := _unsound(study):
            raise CheckFailed(f"registry/{FOLDER}/{name}: {why}; restore the committed file")
        if not any(explains(study, row) for row in tuned):
            raise CheckFailed(f"registry/{FOLDER}/{name} explains no row of results.csv; remove it")
    for row in tuned:
        if not any(explains(study, row) for study in studies.values()):
            raise CheckFailed(
                f"registry/results.csv: {row.title} ({row.dataset}, {row.protocol}) says "
                f"'{row.recipe}', but no study in registry/{FOLDER}/ chose its settings; add it "
                "where it was run (bench leaderboard --write), or remove the row"
            )


def new_studies(store: Store, ledger: Ledger) -> dict[str, bytes]:
    """The files to be committed, by path within `registry`: studies of this workspace that explain
    tuned rows which the committed ones do not.

    Raises CheckFailed for a damaged study, unless the sound ones explain every row.
    """
    tuned = [row for row in ledger if budget(row.recipe)]
    committed = [study for _, study in _committed(store.registry)] if tuned else []
    missing = [row for row in tuned if not any(explains(each, row) for each in committed)]
    if not missing:
        return {}
    found, damaged = [], []
    for path in sorted((store.mlruns / FOLDER).glob(f"*/{STUDY_FILE}")):
        try:
            study = read_study(path, str(path), CURE_HERE)
        except CheckFailed as error:
            damaged.append(error)
            continue
        if study is not None and any(explains(study, row) for row in missing):
            found.append(study)
    if damaged and not all(any(explains(each, row) for each in found) for row in missing):
        raise damaged[0]
    return {f"{FOLDER}/{study.study}.json": study.to_json() for study in found}


def explains(study: StudyRecord, row: LedgerRow) -> bool:
    """Whether a row has the settings of the study's winner, after as many trials as it says."""
    spec, trials = study.base, budget(row.recipe)
    board = spec.dataset_label, spec.protocol, spec.protocol_fingerprint, spec.data_digest
    of_row = row.dataset, row.protocol, row.protocol_fingerprint, row.data_digest
    if board != of_row or len(study.trials) < trials or _unsound(study):
        return False
    # The winner of a study that went on, or the one of its first trials.
    winners = (_winner(study, study.trials), _winner(study, study.trials[:trials]))
    return any(
        winner is not None
        and configuration_of(with_settings(spec, winner.settings)) == row.configuration
        for winner in winners
    )


def _winner(study: StudyRecord, trials: Sequence[StudyTrial]) -> StudyTrial | None:
    """The complete trial with the best value, the earliest if equal."""
    sign = -1 if METRICS[study.base.selection_metric].higher_is_better else 1
    scored = [
        (sign * trial.value, trial.number, trial)
        for trial in trials
        if trial.outcome == "complete" and trial.value is not None
    ]
    return min(scored, key=lambda each: each[:2])[2] if scored else None


def _unsound(study: StudyRecord) -> str:
    """What a study says that cannot be: settings outside of its space, another recipe than its
    protocol's, a value that its metric does not have."""
    spec = study.base
    numbers = [trial.number for trial in study.trials]
    if numbers != sorted(set(numbers)):
        return "a trial is there twice, or they are not in order"
    for protocol in known_protocols():
        if (protocol.name, protocol.fingerprint) == (spec.protocol, spec.protocol_fingerprint) and (
            (protocol.split, protocol.evaluation) != (spec.split, spec.evaluation)
            or protocol.selection_metric != spec.selection_metric
        ):
            return "its split, scores or selection metric are not those of its protocol"
    wrong = ((trial.number, _wrong(study, trial)) for trial in study.trials)
    return next((f"trial {number}: {why}" for number, why in wrong if why), "")


def _wrong(study: StudyRecord, trial: StudyTrial) -> str:
    metric = METRICS[study.base.selection_metric]
    low, high = metric.bounds
    if trial.value is not None and not low <= trial.value <= high:
        return f"a {metric.id} of {trial.value:g}"
    if trial.source in study.known:
        same = dict(trial.settings) == dict(study.known[trial.source])
        return "" if same else f"not the recipe '{trial.source}'"
    if trial.settings.keys() != study.space.keys():
        return "settings that were not searched"
    outside = [key for key, value in trial.settings.items() if not study.space[key].holds(value)]
    return f"{outside[0]} is outside of its range" if outside else ""


def _committed(registry: Path) -> Iterator[tuple[str, StudyRecord]]:
    for path in sorted((registry / FOLDER).glob("*")):
        where = f"registry/{FOLDER}/{path.name}"
        try:
            study = read_study(path, where)
        except BenchError as error:
            raise CheckFailed(str(error)) from None
        if study is None or path.name != f"{study.study}.json":
            raise CheckFailed(f"{where} is no file of a study; remove it")
        yield path.name, study
