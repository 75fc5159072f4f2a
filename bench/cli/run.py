"""`bench run`."""

import shlex
from typing import Annotated

import typer

from bench.cli import console, plan_view
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
    WorkersOption,
    chosen_dataset,
)
from bench.core.errors import BadInput
from bench.core.protocol import default_protocol, load_protocol
from bench.core.store import open_store


def run(
    protocol: ProtocolOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Only these variants, or a class of your own: mine.py:Net (repeatable).",
        ),
    ] = None,
    latent_dim: Annotated[
        list[str] | None, typer.Option("--latent-dim", "-d", help="Only these code sizes: 8,32.")
    ] = None,
    native: Annotated[
        bool,
        typer.Option("--native", help="At the code sizes of the origins, besides --latent-dim."),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Number of seeds: 3 means 0, 1 and 2."),
    ] = None,
    seed: Annotated[
        list[str] | None, typer.Option("--seed", help="Exactly these seeds (repeatable).")
    ] = None,
    dataset: DatasetOption = None,
    image_size: ImageSizeOption = None,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = 1,
    executor: ExecutorOption = "local",
    address: AddressOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train and score every run of a protocol that has no record yet.

    Stop with Ctrl-C at any time: the same command resumes.
    """
    from bench.benchmark.memory import require_memory
    from bench.benchmark.plan import Request, default_workers, forecast_plan, plan
    from bench.execution.places import choose_place
    from bench.registry.results import uncommitted_changes
    from bench.tracking import tracking_is_off

    tracking_is_off()  # raises if that is unclear, before anything is done
    if seed and seeds is not None:
        raise BadInput("--seeds (how many) and --seed (which) exclude each other; give one of them")
    place = choose_place(executor, address, threads)
    given = chosen_dataset(dataset, image_size, scale, label_column)
    request = Request(
        load_protocol(default_protocol(given) if protocol is None else protocol),
        models=console.model_names(model or [], "--model"),
        latent_dims=console.whole_numbers(latent_dim or [], "--latent-dim", 1, 65_536),
        native=native,
        seeds=console.whole_numbers(seed or [], "--seed", 0, 2**31 - 1) or tuple(range(seeds or 0)),
        dataset=given,
        device=place.planned_device(device),
        threads=threads,
        baselines=True,
        beside_committed=True,
    )
    store = open_store().prepare()
    made = plan(request, store)
    slots = workers or (place.planned_slots if dry_run else place.slots)
    slots = slots or default_workers(request, made.specs[0].device)
    memory = require_memory(made.missing, made.sizes, slots) if place.is_local else ""
    cost = forecast_plan(made, store, slots, console.saying_seldom(), local=place.is_local)
    console.say_where(store)
    if warning := uncommitted_changes(store):
        console.say(warning)
    plan_view.announce(made, cost, dry_run and not as_json, place.in_words)
    if memory:
        console.say(memory)
    if not dry_run:
        look = "bench leaderboard"
        look += f" --protocol {protocol}" if protocol is not None else ""
        look += f" --dataset {shlex.quote(given)}" if given else ""
        plan_view.execute_plan(
            made.on_device(place.device(device)), cost, store, as_json, look, place
        )
        return
    sizes, at_most = (
        {} if place.is_local else plan_view.seconds_by_workers(on, len(made.missing))
        for on in (cost.on, cost.most_on)
    )
    if as_json:
        by_workers = {"by_workers": sizes, "by_workers_at_most": at_most} if sizes else {}
        console.print_json(plan_view.as_json(made, cost) | by_workers)
    elif sizes:
        plan_view.show_sizes(sizes, at_most)
