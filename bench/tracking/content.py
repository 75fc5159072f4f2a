"""Content of a run in MLflow: parameters, tags, metrics and a description. Pure; no mlflow here.

Parameters have the same names for all variants, so that the Compare page aligns them; those that
do not apply to a variant (such as the recipe of a closed form) are "-". That page opens with the
first three names, alphabetically, that differ between the selected runs, which should be
`latent_dim`, `model`, `seed`; less interesting names therefore start with later letters.

| metric                        | by epoch | meaning                                              |
|-------------------------------|----------|------------------------------------------------------|
| train/loss, train/...         | yes      | training, as reported by `fit`                       |
| val/METRIC                    | yes      | validation images, weights of that epoch             |
| kept/val_METRIC               | no       | validation images, kept weights: selects the model   |
| test/METRIC, test/mse_x1000,  | no       | test images, kept weights                            |
| test/accuracy_percent         |          |                                                      |
| cost/...                      | no       | parameters, multiply_adds, train_seconds, ...        |
| facts/...                     | no       | code_size, best_epoch, active_units, ...             |

`test/mse_x1000` and `test/accuracy_percent` exist because MLflow labels its bars with two
decimals. `test_d8/mse_x1000` is the same number under a name that only runs with this code size
have: MLflow's charts cannot choose their runs.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping

from bench.core.commands import protocol_reference, repeat_command
from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.core.text import as_code
from bench.metrics import METRICS
from bench.metrics.seen import SENT
from bench.models.zoo import MODELS
from bench.tracking.views import headline, of_track

NOT_APPLICABLE = "-"
KEY, COMPLETE, OWNER, PROTOCOL = (
    "bench.run_key",
    "bench.complete",
    "bench.owner",
    "bench.protocol",
)
_COSTS = {"parameters", "multiply_adds", "train_seconds", "images_per_second"}


def run_name(spec: RunSpec) -> str:
    """The run's title, with its recipe if that is not the default."""
    return spec.title if spec.recipe == "default" else f"{spec.title} {spec.recipe}"


def colour(model: str) -> str:
    """One colour per variant, the same in every chart of every experiment."""
    from bench.core.palette import look

    return look(model).colour


def parameters(spec: RunSpec) -> dict[str, str]:
    """Flat parameters with the same names for every variant (see the module docstring)."""
    own = ", ".join(f"{key}={value}" for key, value in sorted(spec.hyperparameters.items()))
    recipe = {key: _text(value) for key, value in dataclasses.asdict(spec.train).items()}
    if _closed_form(spec.model):
        recipe = dict.fromkeys(recipe, NOT_APPLICABLE)
    return {
        "model": spec.model,
        "latent_dim": spec.size_name,
        "dataset": spec.dataset_label,
        "protocol": spec.protocol,
        "recipe": spec.recipe,
        "seed": str(spec.seed),
        "variant_settings": own or NOT_APPLICABLE,
        "task": spec.task,
        "split": f"{spec.split.kind}, validation {spec.split.validation}, seed {spec.split.seed}",
        "selection_metric": spec.selection_metric,
        "model_revision": str(spec.model_revision),
        **({"model_source": spec.source} if spec.source else {}),
        "device": spec.device,
        "threads": str(spec.threads),
        **{f"train.{key}": value for key, value in recipe.items()},
    }


def _closed_form(model: str) -> bool:
    return model in MODELS and MODELS[model].closed_form


def _text(value: object) -> str:
    return NOT_APPLICABLE if value is None else str(value)


def tags(spec: RunSpec, status: str) -> dict[str, str]:
    """Tags to filter by (plain names), and tags to find a run again (`bench.`).

    What a parameter says (model, seed, ...) is no tag as well; digests stand in the description.
    """
    return {
        "status": status,
        KEY: spec.run_key,
        PROTOCOL: spec.protocol,
        "mlflow.runColor": colour(spec.model),
        "mlflow.source.name": f"bench run --protocol {protocol_reference(spec.protocol)}",
    }


def record_tags(record: RunRecord) -> dict[str, str]:
    """The tags of a finished run."""
    return {
        **tags(record.spec, record.status),
        "track": str(record.track),
        "mlflow.note.content": description(record),
    }


def table_tags(files: Iterable[str]) -> dict[str, str]:
    """Tags that make MLflow show these files of a run as tables."""
    listed = [{"path": path, "type": "table"} for path in files]
    return {"mlflow.loggedArtifacts": json.dumps(listed)} if listed else {}


def version(record: RunRecord) -> str:
    """A text that changes when a record is rewritten: after new metrics, a new training, or as the
    winner of a larger study."""
    recipe = record.spec.recipe
    name = "" if recipe == "default" else f"-{recipe}"
    return f"{record.evaluation_digest}-{record.finished_unix_ms}{name}"


def epoch_metrics(values: EpochValues) -> dict[str, float]:
    """The values of an epoch as sent to MLflow."""
    return _shown(values.values)


def _shown(values: Mapping[str, float]) -> dict[str, float]:
    """Finite values (NaN and infinity would spoil every chart they are in) to six digits.

    MLflow's tables show every digit they get; the record keeps them all.
    """
    return {key: float(f"{value:.6g}") for key, value in values.items() if math.isfinite(value)}


def final_metrics(record: RunRecord) -> dict[str, float]:
    """Everything that is known only at the end."""
    found: dict[str, float] = {}
    for part, prefix in (("val", "kept/val_"), ("test", "test/")):
        for metric, value in record.scores.get(part, {}).items():
            found[f"{prefix}{metric}"] = value
    if "test/mse" in found:
        found["test/mse_x1000"] = 1000 * found["test/mse"]
    if "test/accuracy" in found:
        found["test/accuracy_percent"] = 100 * found["test/accuracy"]
    selected = record.spec.selection_metric
    if record.status == "finished" and headline(selected) in found:
        found[of_track(str(record.track), selected)] = found[headline(selected)]
    for name, value in record.facts.items():
        found[f"{'cost' if name in _COSTS else 'facts'}/{name}"] = value
    return _shown(found)


def description(record: RunRecord) -> str:
    """Markdown for the run's page; its first line gives the result."""
    spec = record.spec
    return "\n".join(
        [
            _headline(record),
            "",
            *_score_table(record),
            *_fact_lines(record),
            f"Hyperparameters of the variant: {parameters(spec)['variant_settings']}. "
            f"Chosen on validation by `{spec.selection_metric}`; the test images were scored once.",
            "",
            f"Run it again: {as_code(repeat_command(spec))}",
            "",
            f"Run key `{record.run_key}`, protocol fingerprint `{spec.protocol_fingerprint}`, "
            f"data `{spec.data_digest}`, scores `{spec.evaluation_digest}`. Everything is in "
            "`record.json` under Artifacts.",
        ]
    )


def _headline(record: RunRecord) -> str:
    spec = record.spec
    size = int(record.facts.get("code_size", 0))
    what = f"**{spec.model}** with a code of {size} numbers" if size else f"**{spec.model}**"
    where = f"on {spec.dataset_label}, protocol {spec.protocol}, seed {spec.seed}"
    if record.status != "finished":
        return f"{what} {where}: **{record.status.upper()}**. {record.message}".rstrip()
    metric = spec.selection_metric
    value = record.scores.get("test", {}).get(metric)
    score = "" if value is None else f": test {metric} {_number(metric, value)}"
    return f"{what} {where}{score}."


def _score_table(record: RunRecord) -> list[str]:
    if not record.scores:
        return []
    validation, test = record.scores.get("val", {}), record.scores.get("test", {})
    lines = ["| metric | validation | test |", "|---|---|---|"]
    for metric in filter(_in_tables, test or validation):
        cells = (
            _number(metric, scores[metric]) if metric in scores else NOT_APPLICABLE
            for scores in (validation, test)
        )
        lines.append(
            f"| {METRICS[metric].title if metric in METRICS else metric} | {' | '.join(cells)} |"
        )
    if left_out := sum(not _in_tables(metric) for metric in test or validation):
        lines += [
            "",
            f"{left_out} further measures are under Metrics, as `kept/...` and `test/...`.",
        ]
    return [*lines, ""]


def _in_tables(metric: str) -> bool:
    """Whether it is a measure of the task that ranks, of the codes as they are; METRICS has many
    more. Measures of a package that is not installed here count as such."""
    row = METRICS.get(metric)
    return row is None or not (row.further or row.needs & {*SENT})


def _number(metric: str, value: float) -> str:
    decimals = METRICS[metric].decimals if metric in METRICS else 4
    unit = METRICS[metric].unit if metric in METRICS else ""
    return f"{value:.{decimals}f} {unit}".strip()


def _fact_lines(record: RunRecord) -> list[str]:
    facts = record.facts
    lines = (
        [
            f"{facts['parameters']:,.0f} parameters, {facts['multiply_adds']:,.0f} multiply-adds "
            f"per image, trained for {facts['train_seconds']:.1f} s on {record.spec.device}."
        ]
        if {"parameters", "multiply_adds", "train_seconds"} <= facts.keys()
        else []
    )
    return [*lines, ""] if lines else []


def model_tags(record: RunRecord, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Tags shown with a registered model: the scores of its task, and its source."""
    spec = record.spec
    scores = {
        f"{part}_{metric}": _number(metric, value)
        for part, values in record.scores.items()
        for metric, value in values.items()
        if _in_tables(metric)
    }
    return {
        "model": spec.model,
        "dataset": spec.dataset_label,
        "protocol": spec.protocol,
        "track": str(record.track),
        "seed": str(spec.seed),
        "recipe": spec.recipe,
        KEY: record.run_key,
        "bench.record": version(record),
        **scores,
        **(extra or {}),
    }
