"""The configurations that are shipped: what `serve-graph init` writes. `configs/` of the checkout links to them."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent


def template(kind: str) -> str:
    """The text of one shipped configuration: `local`, `hosted`, `cluster` or `echo`."""
    return (TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8")
