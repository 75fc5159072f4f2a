"""What a served model can give back, by its task; the first is what comes unasked."""

from collections.abc import Mapping

from bench.core.protocol import Task

OUTPUTS: Mapping[Task, tuple[str, ...]] = {
    "reconstruction": ("reconstruction", "code", "anomaly_score"),
    "classification": ("probabilities", "features", "logits"),
}
