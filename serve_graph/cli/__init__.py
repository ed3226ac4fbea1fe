"""The command line: `serve-graph COMMAND`. One file a command group; nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys

import typer

from serve_graph.cli import bench, decisions, keys, versions
from serve_graph.cli import serve as running
from serve_graph.cli.offline import certify as certifying
from serve_graph.cli.offline import evaluate, plan, simulate
from serve_graph.cli.offline import train as making

app = typer.Typer(
    name="serve-graph",
    help="Answer every question with the cheapest model tier that a certified policy says is good enough.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(running.up)
app.command()(running.demo)
app.command()(running.status)
app.command()(running.doctor)
app.command()(making.collect)
app.command()(making.train)
app.command()(certifying.certify)
app.command()(evaluate.evaluate)
app.command()(plan.plan)
app.command()(simulate.simulate)
app.command()(bench.bench)
app.add_typer(versions.app, name="versions")
app.add_typer(decisions.app, name="decisions")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line: exit 0, 1 (it failed: one line says why) or 2 (wrong use)."""
    from router_models.errors import RouterModelsError
    from serve_graph.cli.output import show_renamed
    from serve_graph.errors import ServeGraphError

    show_renamed()
    try:
        app()
    except (ServeGraphError, RouterModelsError) as error:
        sys.stderr.write(f"serve-graph: {error}\n")
        sys.exit(1)
    except OSError as error:  # a file that cannot be read or written, a full disk
        where = "" if error.filename is None else f"{error.filename}: "
        sys.stderr.write(f"serve-graph: {where}{error.strerror or error}\n")
        sys.exit(1)
