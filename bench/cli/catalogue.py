"""`bench models`, `bench protocols`."""

from typing import Annotated, Any

import typer

from bench.cli import console
from bench.cli.options import JsonOption
from bench.core.protocol import protocol_text, shipped_protocols
from bench.core.store import open_store


def models(as_json: JsonOption = False) -> None:
    """List every variant with its origin, native code size and parameters."""
    from bench.benchmark.catalogue import describe_models
    from bench.models.rows import ORIGINS

    rows = describe_models()
    if as_json:
        console.print_json(rows)
        return
    console.print_rows(
        ("variant", "origin", ">native code", ">parameters"),
        [
            (
                (
                    r["id"],
                    r["origin"],
                    console.or_dash(r["native_code_size"]),
                    console.or_dash(r["parameters"] and f"{r['parameters']:,}"),
                ),
                r["line"],
            )
            for r in rows
        ],
    )
    for origin, title in ORIGINS.items():
        console.show_wrapped(f"{origin}: {title}")


def protocols(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the costs that are not known yet.")
    ] = False,
    show: Annotated[
        str | None, typer.Option(help="Print the file of this one, to copy and change.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the shipped protocols with their cost on this machine."""
    from bench.benchmark.catalogue import NOT_MEASURED, RECORDED, describe_protocols

    if show is not None:
        console.show(protocol_text(show))
        return

    rows = describe_protocols(list(shipped_protocols()), open_store(), measure)
    if as_json:
        console.print_json(rows)
        return
    console.print_rows(
        ("protocol", "data set", ">seeds", ">runs", ">cost here"),
        [
            (
                (
                    r["name"],
                    r["dataset"] or "your own images",
                    console.from_to(str(r["seeds"]), str(r["seeds_at_most"])),
                    console.from_to(str(r["runs"]), str(r["runs_at_most"])),
                    "-" if r["cost_note"] not in ("", RECORDED) else r["cost_note"] or _cost(r),
                ),
                _remark(r, r["cost_note"] not in (RECORDED, NOT_MEASURED)),
            )
            for r in rows
        ],
    )
    if any(r["cost_note"] == NOT_MEASURED for r in rows):
        console.say("costs here that are not measured yet (-): bench protocols --measure")


def _cost(row: dict[str, Any]) -> str:
    """What the missing runs of a protocol cost here."""
    return console.durations(row["forecast_seconds"], row["forecast_seconds_at_most"])


def _remark(row: dict[str, Any], why: bool) -> str:
    """A protocol's description, its code sizes and, with `why`, what its cost lacks."""
    listed = ", ".join(map(str, row["latent_dims"]))
    sizes = f" (code sizes {listed})" if listed else ""
    note = f"; {row['cost_note']}" if why and row["cost_note"] else ""
    return f"{row['description']}{sizes}{note}"
