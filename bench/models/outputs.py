"""What a served model can return, by task; the first is the default."""

from collections.abc import Mapping

from bench.core.protocol import Task

OUTPUTS: Mapping[Task, tuple[str, ...]] = {
    "reconstruction": ("reconstruction", "code", "anomaly_score"),
    "classification": ("probabilities", "features", "logits"),
}
