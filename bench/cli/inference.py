"""`bench encode|reconstruct|anomaly|interpolate|sample|export`: trained models, used."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import console
from bench.cli.options import DatasetOption, LabelColumnOption, ScaleOption
from bench.core.errors import BadInput, Stopped
from bench.core.paths import given_path
from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.store import open_store

if TYPE_CHECKING:
    from bench.inference.inputs import Images
    from bench.inference.outputs import Result
    from bench.registry.loading import LoadedModel

_SHOWN = 10
_PORT = 5001
_SECONDS = 5.0
"""Progress is said at most this often."""

ImagesArgument = Annotated[
    str,
    typer.Argument(
        help="A folder of images, an .npz or .csv file, or the id of a data set.", metavar="IMAGES"
    ),
]
FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="A track (fashion_mnist_mini.quick.d32), MODEL:SIZE (cnn_ae:32, mine.py:Net:32) "
        "or a run key (default: the champion of quick at the largest code size).",
        show_default=False,
    ),
]
ResizeOption = Annotated[
    bool, typer.Option("--resize", help="Resize images to the model's size, colours to grey.")
]


def _out(endings: str) -> Any:
    return typer.Option("--out", metavar="FILE", help=f"Write to this file: {endings}.")


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None


def _model(name: str) -> "LoadedModel":
    from bench.registry.loading import load

    model = load(name)
    console.say(f"model: {model.title}")
    return model


def _read(
    given: str, model: "LoadedModel", resize: bool, scale: str | None, label: str | None
) -> "Images":
    from bench.inference.inputs import read_images

    given = console.given(given, "IMAGES")
    found = read_images(
        given,
        model.image_shape,
        resize,
        "" if scale is None else console.given(scale, "--scale"),
        "" if label is None else console.given(label, "--label-column"),
    )
    for note in found.notes:
        console.say(note)
    return found


def _progress() -> Callable[[int, int], None]:
    """A line every few seconds, for what takes longer than that."""
    spoke = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal spoke
        if done < total and time.monotonic() - spoke > _SECONDS:
            spoke = time.monotonic()
            console.say(f"{done:,} of {total:,} images")

    return say


def _write(path: Path, result: "Result", what: str) -> None:
    from bench.inference.outputs import write_result

    write_result(path, result)
    console.say(f"wrote {what} to {path}")


def encode(
    images: ImagesArgument,
    out: Annotated[str, _out(".npz (names, codes) or .csv")],
    source: FromOption = "",
    resize: ResizeOption = False,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
) -> None:
    """Turn images into codes: a few numbers for each image."""
    from bench.inference import applying
    from bench.inference.outputs import output_file

    path = output_file(console.given(out, "--out"), (".npz", ".csv"), images)
    with _stoppable():
        model = _model(source)
        found = _read(images, model, resize, scale, label_column)
        result = applying.encode(model, found, _progress())
        count, size = result.arrays["codes"].shape
        _write(path, result, f"{count:,} codes of {size} numbers")


def reconstruct(
    images: ImagesArgument,
    out: Annotated[str, _out(".npz (names, reconstructions, errors), .csv or .png")],
    source: FromOption = "",
    resize: ResizeOption = False,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
) -> None:
    """Encode images and decode them again. A .png shows the first ones beside the originals."""
    from bench.inference import applying
    from bench.inference.outputs import output_file

    path = output_file(console.given(out, "--out"), (".npz", ".csv", ".png"), images)
    with _stoppable():
        model = _model(source)
        found = _read(images, model, resize, scale, label_column)
        result = applying.reconstruct(model, found, _progress())
        errors = result.arrays["errors"]
        facts = f"mean squared error {errors.mean():.5f}"
        if path.suffix.lower() == ".png" and len(errors) > applying.SHOWN:
            facts += f"; the picture shows the first {applying.SHOWN}"
        _write(path, result, f"{len(errors):,} reconstructions ({facts})")


def anomaly(
    images: ImagesArgument,
    out: Annotated[str | None, _out(".npz (names, scores, percentiles), .csv or .png")] = None,
    source: FromOption = "",
    resize: ResizeOption = False,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
) -> None:
    """Find images unlike those the model was trained on, by their reconstruction error.

    The percentile says how many per cent of the model's own test images have a lower error.
    """
    from bench.inference import applying
    from bench.inference.outputs import output_file
    from bench.inference.reference import reference_of

    path = None
    if out is not None:
        path = output_file(console.given(out, "--out"), (".npz", ".csv", ".png"), images)
    with _stoppable():
        model = _model(source)
        found = _read(images, model, resize, scale, label_column)
        reference = reference_of(open_store(), model)
        result = applying.anomaly(model, found, reference, _progress())
        if reference is None:
            console.say("no percentiles: the errors of the model's test images are not here")
        else:
            console.say(f"percentiles: among {len(reference.errors):,} errors, {reference.source}")
        _print_highest(result)
        if path is not None:
            _write(path, result, f"{len(found.names):,} scores")


def _print_highest(result: "Result") -> None:
    rows = sorted(result.rows(), key=lambda row: -float(str(row[1])))
    console.print_table(
        f"the highest errors of {len(rows):,} images",
        ("image", ">mean squared error", ">percentile"),
        [
            (str(name), f"{float(str(score)):.5f}", "-" if place == "" else f"{place} %")
            for name, score, place in rows[:_SHOWN]
        ],
    )


def interpolate(
    images: ImagesArgument,
    out: Annotated[str, _out(".npz (names, images), .csv or .png")],
    source: FromOption = "",
    steps: Annotated[
        int, typer.Option(metavar="N", min=2, max=100, help="Images from one end to the other.")
    ] = 8,
    resize: ResizeOption = False,
    scale: ScaleOption = None,
    label_column: LabelColumnOption = None,
) -> None:
    """Walk from the first image to the second, from the third to the fourth, ... through codes."""
    from bench.inference import applying
    from bench.inference.outputs import output_file

    path = output_file(console.given(out, "--out"), (".npz", ".csv", ".png"), images)
    with _stoppable():
        model = _model(source)
        found = _read(images, model, resize, scale, label_column)
        result = applying.interpolate(model, found, steps, _progress())
        _write(path, result, f"{len(result.arrays['images']):,} pairs of {steps} steps")
        if len(found.names) % 2:
            console.say(f"{found.names[-1]} has no partner and was left out")


def sample(
    out: Annotated[str, _out(".npz (images), .csv or .png")],
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", min=1, max=100_000, help="How many images.")
    ] = 64,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed, other images.")] = 0,
    source: FromOption = "",
    dataset: DatasetOption = None,
) -> None:
    """Draw new images: decode random codes. Says where the codes come from."""
    from bench.inference import applying
    from bench.inference.outputs import output_file

    path = output_file(console.given(out, "--out"), (".npz", ".csv", ".png"))
    with _stoppable():
        model = _model(source)
        console.say(f"sampler: {model.sampler}")
        place = "" if dataset is None else console.given(dataset, "--dataset")
        _write(path, applying.sample(model, count, seed, place), f"{count:,} samples")


def export(
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX files.")] = False,
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="Write them here; made if need be.")
    ] = ".",
    source: FromOption = "",
) -> None:
    """Write encoder and decoder as two ONNX files, checked against torch.

    Needs the packages of the extra `onnx` of autoencoder-bench.
    """
    if not onnx:
        raise BadInput("say the format: bench export --onnx (it is the only one)")
    folder = given_path(console.given(out, "--out"), "--out")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out: {folder} is no folder; name another one")
    from bench.inference.export import export_onnx

    with _stoppable():
        model = _model(source)
        found = export_onnx(model, folder)
    shape = " x ".join(map(str, model.image_shape))
    console.say(f"wrote {found.encoder}: images (N x {shape}, in [0, 1]) -> codes")
    console.say(f"wrote {found.decoder}: codes (N x {model.code_size}) -> images")
    console.say(
        f"ONNX Runtime and torch differ by at most {max(found.code_error, found.image_error):.1e}"
    )


def serve(
    track: Annotated[
        str,
        typer.Argument(
            help="A track (default: the champion of quick at the largest code size).",
            show_default=False,
        ),
    ] = DEFAULT_PROTOCOL,
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65_535, help="Port on 127.0.0.1.")
    ] = _PORT,
) -> None:
    """Answer requests with a champion: MLflow's model server, at 127.0.0.1 only. Ctrl-C ends it."""
    from bench.registry.champions import served_champion
    from bench.tracking import require_tracking

    weights, card = served_champion(open_store(), console.given(track, "TRACK"))
    require_tracking("bench serve")
    from bench.models.rows import OUTPUTS
    from bench.tracking.model_server import serving_model
    from bench.tracking.models import Trained

    trained = Trained(
        *(card.spec, card.image_shape, card.class_names, card.weights.sha256, card.run_key)
    )
    try:
        with serving_model(trained, weights, port) as server:
            shape = " x ".join(map(str, card.image_shape))
            console.say(f"serving {card.summary.row}, champion of {card.track}; Ctrl-C ends it")
            console.show(f"http://127.0.0.1:{port}/invocations")
            console.say(
                f'send {{"inputs": images (N x {shape}, in [0, 1]), "params": {{"output": NAME}}}},'
                f" NAME one of {', '.join(OUTPUTS[card.spec.task])}"
            )
            server.wait()
    except KeyboardInterrupt:
        console.say("ended")
