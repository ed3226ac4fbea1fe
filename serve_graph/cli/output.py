"""How results and progress reach a terminal or a program."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The graph's YAML configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
DEFAULT_CONFIG = Path("configs/local.yaml")


def say(text: str) -> None:
    """A result, to stdout."""
    typer.echo(text)


def say_json(data: Any) -> None:
    """A result as one JSON object, to stdout; money stays text, and what is no number is null."""
    from router_models.data.json_values import to_json_values

    typer.echo(json.dumps(to_json_values(data), indent=1, default=repr, allow_nan=False))


def progress_to_stderr() -> Callable[[str], None]:
    """Progress lines with the seconds since the start, to stderr, so that stdout stays a result."""
    started = time.monotonic()

    def show(message: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:5.0f} s] {message}\n")
        sys.stderr.flush()

    return show


def check_out(out: Path | None, *, folder: bool = False) -> None:
    """Raise ServeGraphError where `out`, a file or a folder, could not be written: asked before the work is done."""
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
    """Rows as aligned columns, the first row being the heads."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
