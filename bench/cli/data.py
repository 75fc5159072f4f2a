"""`bench data`: list, fetch and check data sets."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import console
from bench.cli.options import (
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ScaleOption,
    chosen_dataset,
)

app = typer.Typer(help="List, fetch and check data sets.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the known data sets: what they hold and where they are."""
    from bench.data.content import PARTS
    from bench.data.survey import list_datasets
    from bench.data.table import DATASETS

    rows = list_datasets()
    for problem in DATASETS.problems():
        console.say(problem)
    if as_json:
        console.print_json(rows)
        return
    console.print_rows(
        ("data set", ">train", ">validation", ">test", "shape", ">classes"),
        [
            (
                (
                    row["id"],
                    *(
                        f"{row['counts'][part]:,}" if part in row["counts"] else "-"
                        for part in PARTS
                    ),
                    "x".join(map(str, row["image_shape"])),
                    str(len(row["class_names"])),
                ),
                f"{row['title']} ({row['where']})",
            )
            for row in rows
        ],
    )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="An id from `bench data list`.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Take these files instead of a download: a folder with IDX (also .gz) or CSV "
            "files, or an NPZ file.",
        ),
    ] = None,
) -> None:
    """Put a data set into the cache folder: by download, or from files that you have."""
    from bench.data.fetch import fetch as fetch_set

    place = fetch_set(name, source)
    console.say(f"{name} is complete, as expected, and now at {place}")


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Ids, csv:PATH, npz:PATH or folder:PATH; none: every set found."),
    ] = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read data sets completely and verify their content (exit code 3 if a known one differs)."""
    from bench.data.survey import check_datasets

    options = (image_size, scale, label_column)
    if not names:
        chosen_dataset(None, *options)  # refuses options without own images
    rows = check_datasets([chosen_dataset(name, *options) for name in names or []])
    if as_json:
        console.print_json(rows)
        return
    console.print_table(
        "",
        ("data set", ">images", "shape", ">classes", "content (SHA-256)", "verified"),
        [
            (
                row["label"],
                f"{sum(row['counts'].values()):,}",
                "x".join(map(str, row["image_shape"])),
                str(len(row["class_names"])),
                row["digest"][:16],
                row["verified"],
            )
            for row in rows
        ],
    )
    for row in rows:
        for note in row["notes"]:
            console.say(f"{row['label']}: {note}")
