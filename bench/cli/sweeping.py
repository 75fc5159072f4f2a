"""The options of `bench sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import console, studies
from bench.cli.options import (
    AddressOption,
    DatasetOption,
    DeviceOption,
    DryRunOption,
    ExecutorOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    ProtocolOption,
    ScaleOption,
    ThreadsOption,
    chosen_dataset,
)
from bench.core.errors import BadInput
from bench.core.protocol import default_protocol, load_protocol
from bench.core.store import open_store

SamplerOption = Annotated[str, typer.Option(help="tpe, random, gp, cmaes, qmc.")]
PrunerOption = Annotated[str, typer.Option(help="third, median, hyperband, none.")]
TimeoutOption = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        min=1,
        max=10**8,
        help="Stop searching after this time; confirm the best so far.",
    ),
]
StorageOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Study database (default: mlruns/optuna.db).")
]
TrialsOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=100_000,
        help="Trials of each study, including those already finished.",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every trained variant of the protocol.")]
NewStudyOption = Annotated[
    bool, typer.Option("--new-study", help="Begin another study; the old one is kept.")
]
WinnerOption = Annotated[
    str | None,
    typer.Option(
        metavar="STUDY|FILE",
        help="Do not search: train the winner of a study again, or the recipe of a winner.toml.",
    ),
]


def sweep(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Variant to tune, or a class of your own: mine.py:Net (repeatable).",
        ),
    ] = None,
    all_models: AllOption = False,
    trials: TrialsOption = 30,
    latent_dim: Annotated[
        list[str] | None,
        typer.Option("--latent-dim", "-d", help="Code sizes, one study each (default: the first)."),
    ] = None,
    native: Annotated[
        bool, typer.Option("--native", help="At the code size of its origin, besides --latent-dim.")
    ] = False,
    protocol: ProtocolOption = None,
    sampler: SamplerOption = "tpe",
    pruner: PrunerOption = "third",
    timeout: TimeoutOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=256, help="Trials at once (default: one per core or GPU)."
        ),
    ] = None,
    threads: ThreadsOption = 1,
    executor: ExecutorOption = "local",
    address: AddressOption = "auto",
    storage: StorageOption = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**31 - 2000, help="Seed of the search.")
    ] = 0,
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    device: DeviceOption = "auto",
    new_study: NewStudyOption = False,
    winner: WinnerOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tune a variant with Optuna on validation data, then confirm the winner with fresh seeds.

    Stop with Ctrl-C at any time: the same command resumes.
    """
    from bench.execution.places import choose_place
    from bench.models.own import is_reference, named
    from bench.sweep.plan import SweepRequest, tunable
    from bench.tracking import tracking_is_off

    tracking_is_off()  # raises if that is unclear, before anything is done
    place = choose_place(executor, address, threads)
    given = chosen_dataset(dataset, image_size, scale, label_column)
    protocol = default_protocol(given) if protocol is None else protocol
    found, is_file = load_protocol(protocol), protocol.endswith(".toml")
    own = winner is not None and all(map(is_reference, model or []))  # says where the class is
    if (bool(model) and not own) + all_models + (winner is not None) != 1:
        raise BadInput("say what to tune: one of --model NAME (repeatable), --all, --winner STUDY")
    if winner is not None:
        _refuse_search_options(context, {"model"} if own else set())
    request = SweepRequest(
        found,
        console.model_names(model or [], "--model") or tunable(found),
        console.whole_numbers(latent_dim or [], "--latent-dim", 1, 65_536),
        native=native,
        protocol_reference=str(Path(protocol).resolve()) if is_file else protocol,
        trials=trials,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        timeout=timeout,
        storage="" if storage is None else console.given(storage, "--storage"),
        new_study=new_study,
        dataset=given,
        device=place.planned_device(device),
        threads=threads,
    )
    slots = workers or (place.planned_slots if dry_run else place.slots) or None
    where = studies.Where(place, device, slots)
    store = open_store().prepare()
    if winner is not None:
        name = console.given(winner, "--winner")
        for text in model or []:
            named(text)
        studies.train_winner(name, request, where, store, dry_run=dry_run, as_json=as_json)
    else:
        studies.search_all(request, where, store, dry_run=dry_run, as_json=as_json)


def _refuse_search_options(context: typer.Context, more: set[str]) -> None:
    """Refuse search options given with --winner, which ignores them; `more` are useful as well."""
    useful = {"winner", "workers", "threads", "executor", "address", "device", "dry_run", "as_json"}
    for name in sorted(set(context.params) - useful - more):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise BadInput(
                f"--{name.replace('_', '-')}: --winner trains one recipe again, as its file says; "
                "leave it out"
            )
