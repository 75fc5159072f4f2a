"""Analysis of a study: trials as plain values, and the importance of each setting."""

from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from bench.figures import StudyTrials, TrialPoint
from bench.sweep.trials import Trials

EVALUATOR = "fANOVA"
"""Hutter, Hoos, Leyton-Brown 2014; other evaluators give quite different numbers."""
_LEAST_TRIALS = 6


def analyse(book: Trials) -> StudyTrials:
    """Plain values for figures and reports; importances once enough trials are complete."""
    spec, plan = book.plan.base, book.plan
    points = tuple(
        TrialPoint(
            number=trial.number,
            outcome=str(trial.user_attrs["outcome"]),
            source=str(trial.user_attrs.get("source", "")),
            value=trial.value,
            settings=dict(trial.params),
            values={step: float(v) for step, v in sorted(trial.intermediate_values.items())},
            epochs=int(trial.user_attrs.get("epochs", 0)),
        )
        for trial in book.finished()
    )
    size = "native" if spec.latent_dim is None else f"d={spec.latent_dim}"
    return StudyTrials(
        name=book.name,
        about=f"{spec.dataset_label} · {spec.model} · {size} · {len(points)} trials",
        metric=spec.selection_metric,
        epochs=spec.train.epochs,
        log={key for key, kind in plan.space.items() if getattr(kind, "log", False)},
        points=points,
        importance=_importance(book),
        evaluator=EVALUATOR,
    )


def _importance(book: Trials) -> dict[str, float]:
    """The share of the variance of the complete trials' values that each setting explains."""
    complete = [t for t in book.finished() if t.state == TrialState.COMPLETE]
    if len(complete) < _LEAST_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    found = get_param_importances(book.study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(value) for key, value in found.items()}
