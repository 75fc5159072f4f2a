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


def stops_early(name: str) -> bool:
    """Whether a protocol's name is that of a published figure before the last epoch
    (`s1.epoch1`), which `bench reproduce` runs and `--protocol` does not take."""
    return _BUDGET.fullmatch(name) is not None


def model_reference(spec: RunSpec) -> str:
    """What `--model` takes for the model of a spec: its name; of a class in a person's own file,
    which nothing but its code's digest is known of, a place to fill in."""
    in_file = spec.source and spec.model.endswith(f"-{spec.source[:6]}")
    return "path/to/file.py:Class" if in_file else spec.model


def repeat_command(spec: RunSpec) -> str:
    """The command that trains a run again."""
    known = _dataset_of(spec)
    dataset = "" if spec.dataset == known else spec.dataset
    label = "" if known in (None, spec.dataset) else spec.dataset_label
    runs = Runs(spec.protocol, [model_reference(spec)], [spec.size_name], [spec.seed], dataset)
    return repeat_cell(runs, spec.recipe, label, spec.model)


def repeat_cell(runs: Runs, recipe: str, label: str = "", model: str = "") -> str:
    """The command that trains runs of one variant, size and recipe again.

    A tuned recipe is that of its study's winner; a published figure before the last epoch belongs
    to `bench reproduce`. `label`: of the data set in the study's name, where it is not the
    protocol's; `model`: the variant's name there, if `runs` has a place to fill in.
    """
    (given,), (size,) = runs.models, runs.sizes
    model = model or given
    if found := _BUDGET.fullmatch(runs.protocol):
        return f"bench reproduce {model}" + " --first-epochs" * (found["epoch"] == "1")
    if found := _STUDY.fullmatch(recipe):
        sized = {NO_CODE: (), "native": ("native",)}.get(size, (f"d{size}",))
        name = ".".join([runs.protocol, *([label] if label else []), model, *sized])
        number = f".{found['number']}" if found["number"] else ""
        place = ["--model", given] if given != model else []
        return shlex.join(["bench", "sweep", "--winner", f"{name}{number}", *place])
    return runs.command


def dataset_of_protocol(name: str) -> str | None:
    """The data set of a shipped protocol, by its name in records; empty: own images; None: it is
    a file of its user's."""
    reference = protocol_reference(name)
    return None if reference.endswith(".toml") else load_protocol(reference).dataset


def _dataset_of(spec: RunSpec) -> str | None:
    """The data set of the run's protocol, empty for `own`; None if that is not known."""
    return spec.definition.dataset if spec.definition else dataset_of_protocol(spec.protocol)
