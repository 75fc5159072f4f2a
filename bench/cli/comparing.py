"""`bench compare`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import console
from bench.cli.leaderboard import DatasetFilter, ProtocolFilter, json_row, scope_of
from bench.cli.options import (
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ScaleOption,
    chosen_dataset,
)
from bench.core.errors import BadInput
from bench.core.paths import given_path
from bench.core.store import open_store, write_atomically, writing_to

_WIDTH = 80
_LARGEST = 1_000_000


def compare(
    rows: Annotated[
        list[str],
        typer.Argument(help="Variants, or rows as the tables name them.", metavar="A B [...]"),
    ],
    latent_dim: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Only these latent sizes, as 8,32 (default: all shared)."),
    ] = None,
    protocol: ProtocolFilter = None,
    dataset: DatasetFilter = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Draw the test images on which A and B differ most."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Is A better than B, by how much, and at what cost? From scores of the same images.

    Needs no training where the scores are committed.
    """
    from bench.leaderboard import comparing
    from bench.registry.comparing import compare_rows
    from bench.registry.differing import picture

    sizes = console.whole_numbers(latent_dim or [], "--latent-dim", 1, _LARGEST)
    file = _picture_file(out)
    given = chosen_dataset(dataset, image_size, scale, label_column)
    store = open_store()
    found = compare_rows(store, rows, sizes, scope_of(protocol, given))
    if file is not None and len(found.sides) > 1:
        listed = ", ".join(side.track.size_words for side in found.sides)
        raise BadInput(f"--out draws one size; choose one of {listed} with --latent-dim")
    if as_json:
        console.print_json(json_row(comparing.as_json(found.sides)))
    else:
        for section in comparing.sections(found.sides, found.machines):
            console.print_section(section, _WIDTH)
    for note in found.notes:
        console.say(note)
    if file is not None:
        content, without = picture(found, found.sides[0])
        with writing_to("the picture", file.parent, "--out"):
            write_atomically(file, content)
        if without:
            console.say(f"no weights at hand, so only the errors: {', '.join(without)}")
        console.say(f"wrote {file}")


def _picture_file(out: str | None) -> Path | None:
    if out is None:
        return None
    path = given_path(console.given(out, "--out"), "--out")
    if path.suffix.lower() != ".png":
        raise BadInput(f"--out: '{path.name}' is no name of a PNG file; expected FILE.png")
    return path
