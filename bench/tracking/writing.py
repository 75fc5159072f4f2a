"""One run in MLflow: created or found again, written, ended. Any call here may raise."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunStatus,
    RunTag,
)

from bench.core.owners import owner
from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.records.files import Arrays
from bench.tracking import content, pictures

_BATCH = 1000
_STATUS = {"finished": "FINISHED", "diverged": "FAILED", "stopped": "KILLED"}
MEDIAN = "median_seed"


@dataclass
class Entry:
    """MLflow's entry of a run: `complete`, the version of the record that it has completely, if
    any; `ours`, whether this process started or adopted it."""

    run_id: str
    complete: str = ""
    median: bool = False
    model_id: str = ""
    status: str = "RUNNING"
    parameters: frozenset[str] = frozenset()
    epochs: set[int] = field(default_factory=set)
    ours: bool = False


class RunBook:
    """The runs of one experiment by run key, as far as this process knows them; of a large one
    it reads only the run of `run_key`, if that is given."""

    def __init__(
        self, client: MlflowClient, experiment_id: str, study: str = "", run_key: str = ""
    ) -> None:
        self.client = client
        self.experiment_id = experiment_id
        # Two studies may train the same point; each has its own run for it.
        self._tags = {"study": study} if study else {}
        self._entries: dict[str, Entry] = {}
        for run in self._search(f"tags.`{content.KEY}` {'=' if run_key else '!='} '{run_key}'"):
            # Newest first: an older run with the same key was left by a kill.
            self._entries.setdefault(run.data.tags[content.KEY], _entry(run))

    def _search(self, query: str) -> list[Run]:
        query = " and ".join([query, *(f"tags.`{k}` = '{v}'" for k, v in self._tags.items())])
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def known(self, run_key: str) -> Entry | None:
        """The entry found when this process started, or written since."""
        return self._entries.get(run_key)

    def _look_up(self, run_key: str) -> Entry | None:
        """A run created by another head, or by a server after we stopped waiting."""
        found = self._search(f"tags.`{content.KEY}` = '{run_key}'")
        return _entry(found[0]) if found else None

    def find(self, run_key: str, *, fresh: bool = False) -> Entry | None:
        """The known entry, or one made by another head since; `fresh`: its current state."""
        known = None if fresh else self._entries.get(run_key)
        found = known or self._look_up(run_key)
        if found is not None:
            self._entries[run_key] = found
        return found

    def medians(self) -> Mapping[str, Entry]:
        """Entries by run key of the runs that represent their cells."""
        return {key: entry for key, entry in self._entries.items() if entry.median}

    def start(self, spec: RunSpec, started_unix_ms: int) -> Entry:
        """A run to write to: the one that was cut off, or a new one. Its state is RUNNING."""
        entry = self.find(spec.run_key)
        if entry is None or entry.complete:
            run = self.client.create_run(
                self.experiment_id,
                start_time=started_unix_ms,
                tags={**content.tags(spec, "running"), **self._tags, content.OWNER: owner()},
                run_name=content.run_name(spec),
            )
            entry = Entry(run.info.run_id)
        else:
            self._adopt(entry, spec)
        entry.ours = True
        self._entries[spec.run_key] = entry
        self._log(entry, params=content.parameters(spec))
        return entry

    def _adopt(self, entry: Entry, spec: RunSpec) -> None:
        """Go on with a run that was cut off: what it has already is not written again."""
        if entry.status != "RUNNING":
            self.client.update_run(entry.run_id, status="RUNNING")
            entry.status = "RUNNING"
        tags = {**content.tags(spec, "running"), content.OWNER: owner()}
        self._log(entry, tags=tags)
        run = self.client.get_run(entry.run_id)
        entry.parameters = frozenset(run.data.params)
        curves = [key for key in run.data.metrics if key.startswith(("train/", "val/"))]
        for key in curves[:1]:
            history = self.client.get_metric_history(entry.run_id, key)
            entry.epochs = {metric.step for metric in history}

    def drop(self, run_key: str, entry: Entry) -> None:
        """Delete a run: MLflow cannot delete single points of a curve."""
        self.client.delete_run(entry.run_id)
        self._entries.pop(run_key, None)

    def write_epochs(self, entry: Entry, epochs: Iterable[EpochValues]) -> None:
        """Curves, with real time stamps; epochs already written are left out."""
        new = [values for values in epochs if values.epoch not in entry.epochs]
        self._log(
            entry,
            metrics=[
                Metric(key, value, values.unix_ms, values.epoch)
                for values in new
                for key, value in content.epoch_metrics(values).items()
            ],
        )
        entry.epochs |= {values.epoch for values in new}

    def finish(self, record: RunRecord, arrays: Arrays) -> Entry:
        """Write everything that a record holds, with its figures; `bench.complete` comes last."""
        entry = self._entries.get(record.run_key)
        older = entry if entry and entry.complete else None
        if entry is None or older or not entry.ours or entry.status != "RUNNING":
            entry = self.start(record.spec, record.started_unix_ms)
        self.write_epochs(entry, record.history)
        finals = content.final_metrics(record)
        self._log(
            entry,
            tags=content.record_tags(record),
            metrics=[Metric(k, v, record.finished_unix_ms, 0) for k, v in finals.items()],
        )
        self.client.log_inputs(entry.run_id, dataset_inputs(record, arrays))
        pictures.log_files(self.client, entry.run_id, record, arrays)
        self.say(entry, content.table_tags(pictures.class_tables(record, arrays)))
        pictures.log_progress(self.client, entry.run_id, record, arrays)
        if record.status != "finished":
            name = f"{content.run_name(record.spec)} ({record.status})"
            self.client.update_run(entry.run_id, name=name)
        self.end(entry, _STATUS[record.status], record.finished_unix_ms)
        self.client.set_tag(entry.run_id, content.COMPLETE, content.version(record))
        entry.complete = content.version(record)
        if older:
            self.client.delete_run(older.run_id)
        return entry

    def end(self, entry: Entry, status: str, unix_ms: int) -> None:
        """Set a run's end state; otherwise MLflow leaves a killed run RUNNING for ever."""
        self.client.set_terminated(entry.run_id, status, end_time=unix_ms)
        entry.status = status

    def say(self, entry: Entry, tags: Mapping[str, str]) -> None:
        """Set tags of a run in one call."""
        self._log(entry, tags=tags)

    def _log(
        self,
        entry: Entry,
        *,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in one batch, or in a few if there are many metrics.

        Existing parameters stay: MLflow refuses another value, and a resumed training may
        differ in things outside its identity.
        """
        fresh = {k: v for k, v in (params or {}).items() if k not in entry.parameters}
        rest = list(metrics)
        if not (rest or fresh or tags):
            return
        self.client.log_batch(
            entry.run_id,
            metrics=rest[:_BATCH],
            params=[Param(key, value) for key, value in fresh.items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )
        for start in range(_BATCH, len(rest), _BATCH):
            self.client.log_batch(entry.run_id, metrics=rest[start : start + _BATCH])
        entry.parameters |= fresh.keys()


def _entry(run: Run) -> Entry:
    tags = run.data.tags
    return Entry(
        run_id=run.info.run_id,
        complete=tags.get(content.COMPLETE, ""),
        median=tags.get(MEDIAN) == "true",
        model_id=tags.get("bench.model_id", ""),
        status=RunStatus.to_string(RunStatus.from_string(run.info.status)),
    )


def dataset_inputs(record: RunRecord, arrays: Arrays) -> list[DatasetInput]:
    """The three parts of the data set, each with its own digest; no image is stored."""
    metric = record.spec.selection_metric
    counts = {
        "train": int(record.facts.get("train_images", 0)),
        "validation": len(arrays.get(f"validation/{metric}", ())),
        "test": len(arrays.get(f"test/{metric}", ())),
    }
    return [
        DatasetInput(_dataset(record, part, count), [InputTag("mlflow.data.context", part)])
        for part, count in counts.items()
        if count
    ]


def _dataset(record: RunRecord, part: str, count: int) -> Dataset:
    schema, profile = pictures.schema_of_images(record, count)
    return Dataset(
        name=record.spec.dataset_label,
        digest=part_digest(record, part),
        source_type="local",
        source=json.dumps({"uri": record.data_source}),
        schema=schema,
        profile=profile,
    )


def part_digest(record: RunRecord, part: str) -> str:
    """Digest of one part: the data, how they were split, and which part it is."""
    text = f"{record.spec.data_digest}/{record.split_digest}/{part}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
