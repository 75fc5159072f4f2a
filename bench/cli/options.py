"""Options shared by several commands."""

from typing import Annotated

import typer

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
