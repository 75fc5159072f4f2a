"""The command `bench`: a thin shell over plain functions.

Commands parse, import late, make one call and print. Only this package prints, and only it knows
exit codes. Its top-level imports are light, so that
`bench --help` answers at once.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup
from typer.exceptions import TyperException

import bench
from bench.cli import (
    catalogue,
    comparing,
    conform,
    data,
    features,
    figures,
    inference,
    leaderboard,
    registry,
    report,
    reproduce,
    run,
    simulation,
    speed,
    sweeping,
    sync,
    ui,
    unforeseen,
)
from bench.cli.console import say_error
from bench.core.disk import failure_behind, storage_failed
from bench.core.errors import BadInput, BenchError, Stopped
from bench.core.protocol import Protocol, SplitConfig, TrainConfig
from bench.core.store import open_store


class _OneLineErrors(TyperGroup):
    """Print every expected error as one line on stderr, and exit with the error's code."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its help without the line breaks of the source, which Typer keeps in all
        paragraphs but the first."""
        found = super().get_command(ctx, cmd_name)
        if found is not None and found.help:
            paragraphs = found.help.split("\n\n")
            found.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        return found

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read the output has enough, as `head` does; Typer and rich end in this way.
            _drop_output()
            raise SystemExit(1) from None
        except BenchError as error:
            say_error(str(error))
            raise SystemExit(error.exit_code) from None
        except TyperException as error:
            # No arguments at all: the help was already printed.
            if message := _wrong_value(error) or _of_protocol(error) or error.format_message():
                say_error(message)
            raise SystemExit(error.exit_code) from None
        except Exception as error:
            found = failure_behind(error)
            if isinstance(error, PermissionError) and found is None and error.filename:
                say_error(f"{error.filename}: {error.strerror}; give this user access to it")
                raise SystemExit(BadInput.exit_code) from None
            if isinstance(error, OSError) and _of_output(error):
                _drop_output()
                say_error(f"cannot write the output: {error.strerror}; send it to another place")
                raise SystemExit(BadInput.exit_code) from None
            if found is None:
                say_error(unforeseen.explain(error))
                raise SystemExit(BenchError.exit_code) from None
            failed = storage_failed(found, "write", open_store().root)
            say_error(str(failed))
            raise SystemExit(failed.exit_code) from None
        if result == Stopped.exit_code:  # stopped outside of a command's own handling
            say_error("stopped; what was finished is kept, and the same command resumes")
        raise SystemExit(result if isinstance(result, int) else 0)


def _drop_output() -> None:
    """Let nothing more be written to a standard output that takes nothing."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_output(error: OSError) -> bool:
    """Whether writing to standard output failed, as on a full disk: what was raised where text is
    printed, or flushed at the end, is no matter of the workspace."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return error.filename is None and (
        raised_in == Path(__file__) or not {"click", "rich", "typer"}.isdisjoint(raised_in.parts)
    )


def _wrong_value(error: TyperException) -> str:
    """`--workers: '0' should be greater than or equal to 1`; Typer's own line hides the value."""
    cause, param = error.__cause__, getattr(error, "param", None)
    if not isinstance(cause, ValidationError) or param is None:
        return ""
    first = cause.errors()[0]
    expected = first["msg"].removeprefix("Input ").partition(",")[0]
    return f"{max(param.opts, key=len)}: '{first['input']}' {expected}"


def _of_protocol(error: TyperException) -> str:
    """Where to set what is no option because it belongs to a protocol: `--epochs`, `--lr`, ..."""
    option = getattr(error, "option_name", None)
    key = (option or "").lstrip("-").replace("-", "_")
    places = ((TrainConfig, "train."), (SplitConfig, "split."), (Protocol, ""))
    for kind, table in places:
        if option and key in {field.name for field in dataclasses.fields(kind)}:
            return (
                f"{option} is no option: `{table}{key}` belongs to a protocol, which makes runs "
                "comparable; copy one (`bench protocols --show quick > mine.toml`), change it and "
                "its name, and add: --protocol ./mine.toml"
            )
    return ""


app = typer.Typer(
    name="bench",
    cls=_OneLineErrors,
    help="The reference benchmark for image autoencoders: train every variant under one protocol, "
    "track it in MLflow, rank it honestly.",
    epilog="Start with `bench run`, then `bench leaderboard` and `bench ui`.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Benchmark")(run.run)
app.command(rich_help_panel="Benchmark")(sweeping.sweep)
app.command(rich_help_panel="Benchmark")(reproduce.reproduce)
app.command(rich_help_panel="Benchmark")(catalogue.models)
app.command(rich_help_panel="Benchmark")(conform.conform)
app.command(rich_help_panel="Benchmark")(catalogue.protocols)
app.command(rich_help_panel="Benchmark")(speed.speed)
app.command(rich_help_panel="Results")(leaderboard.leaderboard)
app.command(rich_help_panel="Results")(comparing.compare)
app.command(rich_help_panel="Results")(leaderboard.promote)
app.command(rich_help_panel="Results")(leaderboard.verify)
app.command(rich_help_panel="Results")(figures.figures)
app.command(rich_help_panel="Results")(report.report)
app.command("simulate-ranks", rich_help_panel="Results")(simulation.simulate_ranks)
app.add_typer(registry.app, name="registry", rich_help_panel="Results")
app.add_typer(features.app, name="features", rich_help_panel="Results")
app.command(rich_help_panel="Use a model")(inference.encode)
app.command(rich_help_panel="Use a model")(inference.reconstruct)
app.command(rich_help_panel="Use a model")(inference.anomaly)
app.command(rich_help_panel="Use a model")(inference.interpolate)
app.command(rich_help_panel="Use a model")(inference.sample)
app.command(rich_help_panel="Use a model")(inference.export)
app.command(rich_help_panel="Use a model")(inference.serve)
app.add_typer(data.app, name="data", rich_help_panel="Data and tracking")
app.command(rich_help_panel="Data and tracking")(ui.ui)
app.command(rich_help_panel="Data and tracking")(sync.sync)
app.command(rich_help_panel="Data and tracking")(sync.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the `bench` script and of `python -m bench`."""
    # Schedulers, containers and `timeout` send SIGTERM first: treat it like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _open_closed_streams()
    app()


def _open_closed_streams() -> None:
    """Give the command streams where the caller has closed them (`bench models >&-`).

    Otherwise the next file that is opened would get the number, and the output, of a stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123
