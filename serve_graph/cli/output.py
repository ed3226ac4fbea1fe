"""Print results and progress."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from serve_graph.config.records import LoggingConfig

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The graph's YAML configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
AllowLossOption = Annotated[
    bool, typer.Option("--allow-loss", help="Go on although the version's tries cost more than they save.")
]
DEFAULT_CONFIG = Path("configs/local.yaml")


def say(text: str) -> None:
    """Print a result to stdout."""
    typer.echo(text)


def say_json(data: Any) -> None:
    """Print a result to stdout as one JSON object; money stays text, and NaN and infinity become null."""
    from router_models.data.json_values import to_json_values

    typer.echo(json.dumps(to_json_values(data), indent=1, default=repr, allow_nan=False))


def progress_to_stderr() -> Callable[[str], None]:
    """Return a function that prints progress to stderr, with the seconds since the start."""
    started = time.monotonic()

    def show(message: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:5.0f} s] {message}\n")
        sys.stderr.flush()

    return show


def progress_of(logs: LoggingConfig) -> Callable[[str], None]:
    """Return what shows progress in the configured format: sentences on stderr, or lines of the log."""
    if logs.format == "text":
        return progress_to_stderr()
    import logging

    from serve_graph.engines.telemetry.json_logs import set_up_logs

    set_up_logs(logs, {"deployment": "up"})
    return logging.getLogger("serve_graph.up").info


def show_warnings() -> None:
    """Print uses of former names and adjusted values as one sentence each on stderr, unlike Python itself."""
    from router_models.errors import AdjustedWarning, RenamedWarning

    show = warnings.showwarning

    def print_sentence(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RenamedWarning | AdjustedWarning):
            sys.stderr.write(f"serve-graph: warning: {message}\n")
        else:
            show(message, category, filename, lineno, file, line)

    warnings.simplefilter("default", RenamedWarning)
    warnings.simplefilter("always", AdjustedWarning)
    warnings.showwarning = print_sentence


def check_out(out: Path | None, *, folder: bool = False) -> None:
    """Raise ServeGraphError where `out`, a file or a folder, cannot be written: call it before long work."""
    from serve_graph.errors import ServeGraphError

    if out is None:
        return
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if nearest == out and out.is_dir() is not folder:
        raise ServeGraphError(f"{out} is a {'file' if folder else 'folder'}: name another path to write to")
    if nearest != out and not nearest.is_dir():
        raise ServeGraphError(f"{out} cannot be written: {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise ServeGraphError(f"{out} cannot be written: no permission to write to {nearest}")


def columns(rows: list[list[str]]) -> str:
    """Format rows as aligned columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
