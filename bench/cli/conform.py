"""`bench conform`."""

from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.errors import BadInput


def conform(
    given: Annotated[
        list[str] | None,
        typer.Argument(help="A class of your own, mine.py:Net, or a variant.", metavar="MODEL"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="The same as MODEL (repeatable).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model by the contract that every variant keeps; say what is missing.

    Exit code 2 if a rule is not kept.
    """
    from bench.benchmark.conformity import findings

    chosen = console.model_names([*(given or []), *(model or [])], "MODEL")
    if not chosen:
        raise BadInput("say which model to check: bench conform path/to/file.py:Class")
    rows, broken = [], 0
    for text in chosen:
        name, found = findings(text)
        for each in found:
            rows.append({"model": name, "rule": each.rule, "missing": each.missing})
            broken += bool(each.missing)
            if not as_json:
                result = f"MISSING: {each.missing}" if each.missing else "kept"
                console.show(f"{name}: {each.rule}: {result}")
    if as_json:
        console.print_json(rows)
    if broken:
        raise BadInput(f"{broken} of {len(rows)} rules are not kept; the lines above say why")
    if not as_json:
        console.say(f"all {len(rows)} rules are kept")
