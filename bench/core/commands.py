"""The command lines that repeat a run, for messages and MLflow; tests parse them back.

A protocol file of a user's own is named as `NAME.toml`: records keep its name, not its path.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.core.protocol import load_protocol, shipped_protocols
from bench.core.spec import NO_CODE, RunSpec

_BUDGET = re.compile(r"(?P<origin>.+)\.epoch(?P<epoch>\d+)")
_STUDY = re.compile(r"tuned \(\d+ trials(?:, study (?P<number>\d+))?\)")


@dataclass(frozen=True)
class Runs:
    """What `bench run` takes to repeat some runs. `sizes` are names of latent sizes: a number,
    `native`, or `-` for classifiers; `dataset` is empty for the protocol's own."""

    protocol: str
    models: Sequence[str]
    sizes: Iterable[str]
    seeds: Iterable[int]
    dataset: str = ""

    @property
    def command(self) -> str:
        """The command line, as a shell takes it."""
        sizes = sorted(set(self.sizes) - {NO_CODE}, key=lambda size: (len(size), size))
        numbers = ",".join(size for size in sizes if size != "native")
        words = ["bench", "run", "--protocol", protocol_reference(self.protocol)]
        words += ["--dataset", self.dataset] if self.dataset else []
        words += [word for name in self.models for word in ("--model", name)]
        words += ["--latent-dim", numbers] if numbers else []
        words += ["--native"] if "native" in sizes else []
        words += ["--seed", ",".join(map(str, sorted(set(self.seeds))))]
        return shlex.join(words)


def protocol_reference(name: str) -> str:
    """What `--protocol` takes for a protocol's name: `quick`, `origins/s1`, `mine.toml`."""
    known = {reference.rpartition("/")[2]: reference for reference in shipped_protocols()}
    return known.get(name, f"{name}.toml")


def model_reference(spec: RunSpec) -> str:
    """What `--model` takes for the model of a spec: its name; of a class in a person's own file,
    which nothing but its code's digest is known of, a place to fill in."""
    in_file = spec.source and spec.model.endswith(f"-{spec.source[:6]}")
    return "path/to/file.py:Class" if in_file else spec.model


def repeat_command(spec: RunSpec) -> str:
    """The command that trains a run again.

    A tuned recipe is that of its study's winner; a published figure before the last epoch belongs
    to `bench reproduce`.
    """
    if found := _BUDGET.fullmatch(spec.protocol):
        return f"bench reproduce {spec.model}" + " --first-epochs" * (found["epoch"] == "1")
    if found := _STUDY.fullmatch(spec.recipe):
        number = f".{found['number']}" if found["number"] else ""
        model = [] if model_reference(spec) == spec.model else ["--model", model_reference(spec)]
        return shlex.join(["bench", "sweep", "--winner", f"{_study(spec)}{number}", *model])
    dataset = "" if spec.dataset == _dataset_of(spec) else spec.dataset
    models = [model_reference(spec)]
    return Runs(spec.protocol, models, [spec.size_name], [spec.seed], dataset).command


def _study(spec: RunSpec) -> str:
    """The name of the study of a run's cell: `quick.fc_ae.d8`, `classifier.cnn_classifier`.

    With the data set where it is not the protocol's.
    """
    size = {NO_CODE: (), "native": ("native",)}.get(spec.size_name, (f"d{spec.size_name}",))
    other = () if _dataset_of(spec) in (None, spec.dataset) else (spec.dataset_label,)
    return ".".join([spec.protocol, *other, spec.model, *size])


def _dataset_of(spec: RunSpec) -> str | None:
    """The data set of the run's protocol, empty for `own`; None if that is not known."""
    if spec.definition is not None:
        return spec.definition.dataset
    reference = protocol_reference(spec.protocol)
    return None if reference.endswith(".toml") else load_protocol(reference).dataset
