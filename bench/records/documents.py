"""The three JSON documents of a result, and how records of earlier versions become them.

A `RunRecord` in memory joins a training, one scoring of its weights and one board entry:

| document                   | holds                                                           |
|----------------------------|-----------------------------------------------------------------|
| record.json                | the training: what was trained, how it went, facts, environment |
| scores/DIGEST/scores.json  | means by part and metric, for one `evaluation_digest`           |
| boards/BOARD.json          | the whole protocol, the name of the data, the recipe, and which |
|                            | scores it shows; paths in it are hints                          |

Each document ends with the digest of the rest, so damage is noticed. Schema 1 kept all three in
`record.json`, knew a protocol by name only, and own data by their file name only.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import digest, own_label
from bench.core.paths import regular
from bench.core.protocol import NAME_ONLY, Protocol, known_protocols
from bench.core.recipes import BEST_OF
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import from_hint, to_hint
from bench.core.strict import adapter

Json = dict[str, Any]

SCHEMA = 2
_SCHEMA, _DIGEST = "schema_version", "digest"
_SCORES = ("evaluation_digest", "scores", "arrays_sha256")
_SCORES_SPEC = ("evaluation", "metric_revisions")
_ENTRY = ("evaluation_digest", "data_source")
_ENTRY_SPEC = (
    "protocol",
    "protocol_fingerprint",
    "definition",
    "dataset",
    "dataset_label",
    "recipe",
    "ranked",
)
_ENTRY_FACTS = (BEST_OF,)
CURE = "`bench doctor --fix` puts the record aside, and the next run trains it again"
TRAINING = "training"
_NEEDED: Mapping[str, Mapping[str, type]] = {
    TRAINING: {"spec": dict, "facts": dict},
    "scores": {"evaluation_digest": str, "spec": dict},
    "boards": {"evaluation_digest": str, "data_source": str, "spec": dict, "facts": dict},
}
_TANH_VARIANTS = ("tapered_ae", "conv_bn_ae")
"""The variants of schema 1 that work on [-1, 1]."""


@dataclasses.dataclass(frozen=True)
class Documents:
    """What is stored of one training: its scores by evaluation digest, its entries by board."""

    training: Json
    scores: Mapping[str, Json]
    entries: Mapping[str, Json]


def documents_of(record: RunRecord, root: Path) -> Documents:
    """Take a record apart. `root` is the workspace: paths inside it become relative to it."""
    data = _plain(record)
    spec, facts = data.pop("spec"), data.pop("facts")
    spec["dataset"] = to_hint(spec["dataset"], root)
    entry = {
        "run_key": record.run_key,
        **_take(data, _ENTRY),
        "spec": _take(spec, _ENTRY_SPEC),
        "facts": _take(facts, _ENTRY_FACTS),
    }
    scores = {
        "run_key": record.run_key,
        **_take(data, _SCORES),
        "spec": _take(spec, _SCORES_SPEC),
    }
    training = {**data, "spec": spec, "facts": facts}
    for key in {*_SCORES, *_ENTRY}:
        training.pop(key)
    for key in {*_SCORES_SPEC, *_ENTRY_SPEC}:
        spec.pop(key, None)
    for key in _ENTRY_FACTS:
        facts.pop(key, None)
    return Documents(training, {record.evaluation_digest: scores}, {record.spec.board: entry})


def complete(kind: str, document: Json, path: Path) -> Json:
    """The document, if it has what it is joined by; CheckFailed otherwise.

    `kind`: TRAINING, or the folder that holds the document.
    """
    for key, type_ in _NEEDED[kind].items():
        if not isinstance(document.get(key), type_):
            raise CheckFailed(f"{path} is damaged ({key}: missing or of another kind); {CURE}")
    return document


def join(training: Json, scores: Json, entry: Json, root: Path, where: str) -> RunRecord:
    """The record of a training with one scoring on one board; CheckFailed if they do not fit."""
    data = {
        key: value
        for part in (entry, scores, training)
        for key, value in part.items()
        if key not in (_SCHEMA, _DIGEST)
    }
    parts = (training, scores, entry)
    data["spec"] = {key: value for part in parts for key, value in part["spec"].items()}
    data["facts"] = {key: value for part in parts for key, value in part.get("facts", {}).items()}
    hint = data["spec"].get("dataset")
    data["spec"]["dataset"] = from_hint(hint, root) if isinstance(hint, str) else hint
    return _record(data, where)


def entry_for(spec: RunSpec, evaluation_digest: str, data_source: str, root: Path) -> Json:
    """A board entry of a run that has none yet: as its spec says."""
    plain = adapter(RunSpec).dump_python(_bare(spec), mode="json")
    plain["dataset"] = to_hint(plain["dataset"], root)
    return {
        "run_key": spec.run_key,
        "evaluation_digest": evaluation_digest,
        "data_source": data_source,
        "spec": _take(plain, _ENTRY_SPEC),
        "facts": {},
    }


def encode(document: Json) -> bytes:
    """The bytes of a document, sealed with its digest."""
    content = {_SCHEMA: SCHEMA, **document}
    return json.dumps({**content, _DIGEST: digest(content)}, indent=1).encode()


def decode(path: Path, cure: str = CURE) -> Json | None:
    """Read a document, of schema 1 as it is; None if there is none.

    Raises CheckFailed naming the file and the cure if it was edited by hand or damaged.
    """
    try:
        data = json.loads(regular(path, cure).read_bytes())
        version = data[_SCHEMA]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckFailed(f"{path} is damaged: it is not a document of ours; {cure}") from None
    if version not in (1, SCHEMA):
        seen = json.dumps(version)[:20]
        raise CheckFailed(f"{path} has schema {seen}, this version reads 1 and {SCHEMA}; {cure}")
    if version == SCHEMA:
        seal = data.pop(_DIGEST, None)
        try:
            sealed = digest(data) == seal
        except ValueError:
            sealed = False
        if not sealed:
            raise CheckFailed(f"{path} was changed: its content does not match its digest; {cure}")
    return dict(data)


@contextlib.contextmanager
def whole(where: str) -> Iterator[None]:
    """Turn the lack of a key, or a value of another kind, into CheckFailed: what is sealed rightly
    may still be no document of ours."""
    try:
        yield
    except (KeyError, TypeError, AttributeError):
        raise CheckFailed(f"{where} is damaged: it is not a record; {CURE}") from None


def is_earlier(training: Json) -> bool:
    """Whether `record.json` is of schema 1, with scores and board in it."""
    return bool(training[_SCHEMA] == 1)


def upgraded(data: Json, root: Path, where: str) -> Documents:
    """The documents of a record of schema 1; CheckFailed naming `where` if it is damaged.

    No digest changes: the identity of a training and of its scores are as before.
    """
    with whole(where):
        solved = not data["history"]
        tanh = data["spec"]["model"] in _TANH_VARIANTS
        found = {key: value for key, value in data.items() if key != _SCHEMA} | {
            "spec": {**data["spec"], "dataset_label": _label_today(data["spec"])},
            "closed_form": solved,
            "value_range": (-1.0, 1.0) if tanh else (0.0, 1.0),
        }
    record = _record(found, where)
    definition = definition_of(record.spec)
    spec = dataclasses.replace(record.spec, definition=definition, ranked=definition.ranked)
    return documents_of(dataclasses.replace(record, spec=spec), root)


def _label_today(spec: Mapping[str, Any]) -> str:
    label: str = spec["dataset_label"]
    return own_label(label, spec["data_digest"]) if ":" in spec["dataset"] else label


def definition_of(spec: RunSpec) -> Protocol:
    """The protocol of a spec that only names it: a shipped one, or what the spec tells of it."""
    known = _shipped().get((spec.protocol, spec.protocol_fingerprint))
    if known is not None:
        return known.kept(spec.dataset_label)
    return Protocol(
        name=spec.protocol,
        description=NAME_ONLY,
        dataset=spec.dataset_label,
        task=spec.task,
        models=(spec.model,),
        latent_dims=() if spec.latent_dim is None else (spec.latent_dim,),
        native=spec.has_code and spec.latent_dim is None,
        seeds=(spec.seed,),
        split=spec.split,
        train=spec.train,
        evaluation=spec.evaluation,
        selection_metric=spec.selection_metric,
        ranked=spec.ranked,
    )


@functools.cache
def _shipped() -> dict[tuple[str, str], Protocol]:
    return {(protocol.name, protocol.fingerprint): protocol for protocol in known_protocols()}


def _record(data: Json, where: str) -> RunRecord:
    try:
        record: RunRecord = adapter(RunRecord).validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "file"
        raise CheckFailed(f"{where} is damaged ({key}: {first['msg']}); {CURE}") from None
    if record.spec.run_key != record.run_key:
        raise CheckFailed(f"{where} does not belong to run {record.run_key}; {CURE}")
    return record


def _plain(record: RunRecord) -> Json:
    bare = dataclasses.replace(record, spec=_bare(record.spec))
    dumped: Json = adapter(RunRecord).dump_python(bare, mode="json")
    return dumped


def _bare(spec: RunSpec) -> RunSpec:
    """The spec with its protocol as stored."""
    kept = spec.definition.kept(spec.dataset_label) if spec.definition else None
    return dataclasses.replace(spec, definition=kept)


def _take(data: Mapping[str, Any], keys: Collection[str]) -> Json:
    return {key: data[key] for key in keys if key in data}
