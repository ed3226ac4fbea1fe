"""The shipped configurations that `serve-graph init` writes; `configs/` of a checkout links to them."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent


def template(kind: str) -> str:
    """Return the text of a shipped configuration: `local`, `hosted`, `cluster` or `echo`."""
    return (TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8")
