"""The experiment of a protocol in MLflow: found or created, described, with its views."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, RESOURCE_ALREADY_EXISTS, ErrorCode

from bench.core.protocol import Protocol, origin_protocols
from bench.core.seeds import rule_in_words
from bench.core.spec import RunRecord
from bench.core.tasks import TASKS
from bench.core.text import for_markdown
from bench.metrics import METRICS
from bench.records.documents import definition_of
from bench.tracking.views import VIEW_TAG, ViewPlan, headline, view_tags

_PROTOCOL, _DATASET = "bench.protocol", "bench.dataset"


@dataclass(frozen=True)
class ExperimentPlan:
    """Name, description and views of an experiment."""

    name: str
    protocol: str
    dataset_label: str
    description: str
    view: ViewPlan


def plan_for_protocol(protocol: Protocol, dataset_label: str) -> ExperimentPlan:
    """`quick` for a protocol's own data set, else `quick on csv.mydigits`.

    Protocols that share an experiment (those of the origins) use it for every data set.
    """
    own = dataset_label == protocol.kept(dataset_label).dataset
    alone = protocol.name if own else f"{protocol.name} on {dataset_label}"
    return ExperimentPlan(
        name=protocol.experiment or alone,
        protocol=protocol.experiment or protocol.name,
        dataset_label="every" if protocol.experiment else dataset_label,
        description=_description(protocol, dataset_label),
        view=_shared_view(protocol) if protocol.experiment else _own_view(protocol),
    )


def plan_for(record: RunRecord) -> ExperimentPlan:
    """The plan for a record, from the protocol stored with it."""
    definition = record.spec.definition or definition_of(record.spec)
    return plan_for_protocol(definition, record.spec.dataset_label)


def _own_view(protocol: Protocol) -> ViewPlan:
    return _view_plan(
        protocol.task,
        protocol.evaluation.metrics,
        protocol.selection_metric,
        protocol.train.epochs,
        protocol.ranked,
    )


def _shared_view(protocol: Protocol) -> ViewPlan:
    """The columns of all shipped protocols in that experiment, whichever was run last.

    Autoencoders come first, and their metric sorts; classifiers are below them.
    """
    shipped = [each for each in origin_protocols() if each.experiment == protocol.experiment]
    members = shipped or [protocol]
    members.sort(key=lambda protocol: list(TASKS).index(protocol.task))
    metrics = dict.fromkeys(name for each in members for name in each.evaluation.metrics)
    return _view_plan(members[0].task, tuple(metrics), members[0].selection_metric, 0, ranked=False)


def _view_plan(
    task: str, metrics: tuple[str, ...], selection: str, epochs: int, ranked: bool = True
) -> ViewPlan:
    row = METRICS.get(selection)
    higher = row is not None and row.higher_is_better
    has_code = TASKS[task].has_code
    return ViewPlan(metrics, selection, higher, epochs, ranked, has_code)


def _description(protocol: Protocol, dataset_label: str) -> str:
    """Markdown; MLflow shows only the first line until it is expanded."""
    if protocol.experiment:
        return (
            "Published figures of the systems that this suite unites, reproduced by their own "
            "recipes\n\nRows of different protocols cannot be compared. The verdicts are "
            "`bench reproduce --list`."
        )
    train = protocol.train
    return (
        f"{for_markdown(protocol.description)}\n\n"
        f"Data set `{dataset_label}`; {train.budget} of {train.optimizer}, batches of "
        f"{train.batch_size}, rate {train.lr} ({train.schedule}); "
        f"{rule_in_words(protocol.seeds)}. Rows are sorted by `kept/val_"
        f"{protocol.selection_metric}`: the validation score of the kept weights, those of the "
        f"best epoch. `test/...` was scored once, at the end{_scaled(protocol.selection_metric)}. "
        "Rows compare only within a track (equal code size, or as many classes), see the saved "
        "views under Views. "
        f"Fingerprint `{protocol.fingerprint}`. The ranked table with error bars is "
        "`bench leaderboard`."
    )


def _scaled(metric: str) -> str:
    name, _, scale = headline(metric).partition("_x")
    return f" (`{name}_x{scale}` is `{name}` times {scale}, for charts)" if scale else ""


def ensure_experiment(client: MlflowClient, plan: ExperimentPlan, location: str | None) -> str:
    """The experiment's id, created if missing, with description and views up to date.

    It is found by its tags first, so it may be renamed. `location`: where its artifacts go,
    None if a server decides.
    """
    experiment = _find(client, plan) or _create(client, plan, location)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    wanted = {
        "mlflow.note.content": plan.description,
        # Otherwise the page offers language-model tools first.
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": plan.view.test,
    }
    have = experiment.tags
    for key, value in wanted.items():
        if have.get(key) != value:
            set_tag(client, experiment.experiment_id, key, value)
    ensure_views(client, experiment, plan, ())
    return str(experiment.experiment_id)


def set_tag(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment that other heads may be setting at the same moment.

    If two add it, MLflow refuses the later one (3.17 checks whether the tag exists, then
    inserts it). On the second attempt it exists.
    """
    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(BAD_REQUEST):
            raise
        client.set_experiment_tag(experiment_id, key, value)


def _find(client: MlflowClient, plan: ExperimentPlan) -> Experiment | None:
    found = client.search_experiments(
        filter_string=(
            f"tags.`{_PROTOCOL}` = '{plan.protocol}' and tags.`{_DATASET}` = '{plan.dataset_label}'"
        ),
        max_results=1,
    )
    return found[0] if found else client.get_experiment_by_name(plan.name)


def _create(client: MlflowClient, plan: ExperimentPlan, location: str | None) -> Experiment:
    tags = {_PROTOCOL: plan.protocol, _DATASET: plan.dataset_label}
    try:
        made = client.create_experiment(plan.name, artifact_location=location, tags=tags)
        return client.get_experiment(made)
    except MlflowException as error:
        # Another head was faster.
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    experiment = client.get_experiment_by_name(plan.name)
    if experiment is None:
        raise MlflowException(f"experiment {plan.name} exists and cannot be found")
    return experiment


def ensure_views(
    client: MlflowClient, experiment: Experiment, plan: ExperimentPlan, tracks: Iterable[str]
) -> None:
    """Write the views that are missing or have an older layout; `tracks`: those that are new."""
    now = int(time.time() * 1000)
    shown = tuple(sorted({*known_tracks(experiment), *tracks}))
    for key, value in view_tags(plan.view, shown, now).items():
        if not _same_view(experiment.tags.get(key, ""), value):
            set_tag(client, experiment.experiment_id, key, value)


def _same_view(have: str, wanted: str) -> bool:
    """Whether two views are equal except for their dates."""
    if not have:
        return False
    old, new = json.loads(have), json.loads(wanted)
    return bool(old["state"] == new["state"] and old["name"] == new["name"])


def known_tracks(experiment: Experiment) -> set[str]:
    """Tracks that already have a view."""
    head = f"{VIEW_TAG}track-"
    return {key.removeprefix(head) for key in experiment.tags if key.startswith(head)}
