"""Options shared by several commands."""

from typing import Annotated

import typer

from bench.cli import console
from bench.core.protocol import DEFAULT_PROTOCOL, OWN_IMAGES_PROTOCOL

ProtocolOption = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        "-p",
        help=f"A shipped protocol, or a .toml file (default: {DEFAULT_PROTOCOL}; for your own "
        f"images {OWN_IMAGES_PROTOCOL}).",
        show_default=False,
    ),
]

ExecutorOption = Annotated[
    str, typer.Option(help="local (processes on this machine) or ray (a Ray cluster).")
]
AddressOption = Annotated[
    str, typer.Option(metavar="ADDRESS", help="The Ray cluster: auto, or HOST:PORT.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="Another data set: an id, csv:PATH, npz:PATH or folder:PATH.")
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Resize your own images to SIZE: 28, or HxW such as 28x32."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="WHITE", help="The value of white in your own images: 1, 255, ..."),
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The labels in csv:PATH: first, last, none or its name."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=256, help="Runs at once (default: one per core or GPU)."),
]
ThreadsOption = Annotated[
    int, typer.Option(metavar="N", min=1, max=256, help="Threads of each run.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and its cost, train nothing.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def chosen_dataset(
    dataset: str | None, size: str | None, scale: str | None, label: str | None
) -> str:
    """The reference of `--dataset`, with what the options say on how to read it; "" without any.

    Raises BadInput for an empty value, an impossible one, and for options without own images.
    """
    from bench.data.reading import with_options

    names = ("--dataset", "--image-size", "--scale", "--label-column")
    values = (dataset, size, scale, label)
    return with_options(
        *(
            "" if value is None else console.given(value, name)
            for name, value in zip(names, values, strict=True)
        )
    )
