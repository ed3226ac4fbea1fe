"""The command line `serve-graph COMMAND`: one file per command group; heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from serve_graph.cli import alarms, audit, bench, collect, decisions, serve, versions
from serve_graph.cli.batch import command as batch
from serve_graph.cli.extras import EXTRA_OF, sentence
from serve_graph.cli.offline import capacity, certify, evaluate, label, models, plan, robustness, simulate, train
from serve_graph.cli.setup import init, keys, manifests, monitoring, store
from serve_graph.cli.versions.estimate import estimate
from serve_graph.cli.versions.win_rate import ensemble

app = typer.Typer(
    name="serve-graph",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(init.init)
app.command()(serve.up)
app.command()(serve.demo)
app.command()(serve.status)
app.command()(serve.doctor)
app.command()(manifests.manifests)
app.command()(monitoring.monitoring)
app.command()(collect.collect)
app.command()(train.train)
app.command()(label.label)
app.command()(certify.certify)
app.command()(evaluate.evaluate)
app.command()(robustness.robustness)
app.command()(plan.plan)
app.command()(simulate.simulate)
app.command()(capacity.capacity)
app.command()(bench.bench)
app.command()(audit.audit)
app.add_typer(models.app, name="models")
app.add_typer(batch.app, name="batch")
app.add_typer(versions.app, name="versions")
decisions.app.command()(estimate)
decisions.app.command()(ensemble)
app.add_typer(decisions.app, name="decisions")
app.add_typer(alarms.app, name="alarms")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="records")


def print_version(requested: bool) -> None:
    """Handle `--version`: print the installed version and exit."""
    if requested:
        from serve_graph import __version__

        typer.echo(f"serve-graph {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Answer every question with the cheapest model tier that a certified policy says is good enough."""


def main() -> None:
    """Run the command line: exit 0, 1 (failure, with one line saying why) or 2 (wrong use)."""
    from router_models.errors import RouterModelsError
    from serve_graph.cli.output import show_warnings
    from serve_graph.errors import ServeGraphError

    show_warnings()
    try:
        app()
    except (ServeGraphError, RouterModelsError) as error:
        sys.stderr.write(f"serve-graph: {error}\n")
        sys.exit(1)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA_OF:
            raise
        sys.stderr.write(f"serve-graph: {sentence('this command', missing)}\n")
        sys.exit(2)
    except OSError as error:  # unreadable or unwritable files, a full disk
        where = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"serve-graph: {where}{error.strerror or error}\n")
        sys.exit(1)
