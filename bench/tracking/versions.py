"""MLflow's Model Registry: versions with aliases that mirror the champions in `registry/`.

The committed folder `registry/` is authoritative; the mirror is for serving from MLflow.
"""

import logging
import re
from collections.abc import Mapping
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.core.tasks import TASKS
from bench.models.rows import OUTPUTS
from bench.records.files import read_arrays
from bench.tracking import content, models
from bench.tracking.database import prepared_address
from bench.tracking.experiment import plan_for
from bench.tracking.tracker import Failure, open_book
from bench.tracking.writing import Entry, RunBook

Alias = Literal["champion", "challenger"]
_PICTURE = re.compile(r"\]\((?P<name>[a-z_]+\.png)\)")
_log = logging.getLogger("bench.tracking")


def register_version(
    store: Store,
    record: RunRecord,
    *,
    registered_name: str,
    alias: Alias,
    description: str,
    tags: Mapping[str, str],
) -> bool:
    """Make the record's model a version of `registered_name` and point `alias` at it.

    A record that is already registered keeps its version; only the alias moves. The run and its
    model are sent to MLflow first if it lacks them. Returns False, with a warning, if MLflow
    does not answer. Raises BadInput for an unusable local store, CheckFailed for damaged weights.
    """
    address = prepared_address(store)
    try:
        if reason := address.why_not():
            raise ConnectionError(reason)
        book = open_book(store, plan_for(record), address, run_key=record.run_key)
        entry = book.known(record.run_key)
        if entry is None or entry.complete != content.version(record):
            entry = book.finish(record, read_arrays(store.records, record))
        if not entry.model_id:
            entry.model_id = models.log_model(book.client, entry.run_id, store, record)
            book.say(entry, {models.MODEL_ID: entry.model_id})
        version = _version(book, registered_name, record, entry)
        _describe(
            book.client,
            version,
            with_pictures_of(entry.run_id, description),
            content.model_tags(record, tags),
        )
        if alias not in version.aliases:
            book.client.set_registered_model_alias(registered_name, alias, version.version)
            book.say(entry, {"registry": f"{registered_name}@{alias}"})
    except Failure as error:
        return _not_told(registered_name, error)
    return True


def _describe(
    client: MlflowClient, version: ModelVersion, text: str, tags: Mapping[str, str]
) -> None:
    """Write what the version does not say already: each tag is a request."""
    if version.description != text:
        client.update_model_version(version.name, version.version, text)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def with_pictures_of(run_id: str, text: str) -> str:
    """Markdown whose pictures, named as files beside it, are those of a run in MLflow."""
    return _PICTURE.sub(rf"](get-artifact?path=figures%2F\g<name>&run_uuid={run_id})", text)


def _version(book: RunBook, name: str, record: RunRecord, entry: Entry) -> ModelVersion:
    """The version that holds this record's model, created if there is none."""
    kind = f"{TASKS[record.spec.task].judges}s"
    about = (
        f"Best {kind} of track {record.track} on {record.spec.dataset_label} under protocol "
        f"{record.spec.protocol}. Aliases: champion, challenger. Input: images N x "
        f"{' x '.join(map(str, record.image_shape))}, float32 in [0, 1]; parameter `output`: "
        f"{', '.join(OUTPUTS[record.spec.task])}."
    )
    client = book.client
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    for version in client.search_model_versions(f"name = '{name}'"):
        same_model = version.tags.get(models.MODEL_ID) == entry.model_id
        if version.tags.get(content.KEY) == record.run_key and same_model:
            return version
    # The registry looks up the model in the process's global store.
    with models.surroundings(client.tracking_uri, book.experiment_id):
        return client.create_model_version(
            name,
            source=f"models:/{entry.model_id}",
            run_id=entry.run_id,
            tags={content.KEY: record.run_key, models.MODEL_ID: entry.model_id},
            model_id=entry.model_id,
        )


def clear_alias(store: Store, registered_name: str, alias: Alias) -> bool:
    """Remove an alias, as after a rollback to nothing; True also if there was none."""
    address = prepared_address(store)
    try:
        if reason := address.why_not():
            raise ConnectionError(reason)
        client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
        client.delete_registered_model_alias(registered_name, alias)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return True
        return _not_told(registered_name, error)
    except Failure as error:
        return _not_told(registered_name, error)
    return True


def _not_told(registered_name: str, error: Exception) -> bool:
    first = (str(error) or type(error).__name__).splitlines()[0]
    _log.warning(
        "MLflow's registry lacks %s (%s); registry/ has it; promote again to send it",
        registered_name,
        first,
    )
    return False
