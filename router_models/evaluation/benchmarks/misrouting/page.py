"""The page of what rewriting hard prompts did: every way for one version or several, and a line for each family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router_models.data.json_values import to_json_values
from router_models.evaluation.benchmarks.misrouting.results import Misrouting
from router_models.reports.markdown import percent
from router_models.reports.markdown import table as markdown_table


def misrouting_page(found: Sequence[Misrouting], made: str = "") -> str:
    """Return the page as Markdown: what every perturbation did to each of several versions."""
    parts = ["# Prompts written to be routed elsewhere", made, _beside(found) if len(found) > 1 else ""]
    for one in found:
        before = f"{one.routed:.1%} of them were sent to it and covered before anything was rewritten"
        before += "" if one.accepted is None else f", {one.accepted:.1%} accepted there"
        beyond = ", ".join(row.name for row in one.beyond) or "none"
        head = ["rewritten as", "kind", "not covered", "router alone moves", "routed and covered", "moved", "accepted"]
        body = [
            [
                row.name, row.kind, f"{row.not_covered:.0%}", f"{row.alone:.1%}", f"{row.routed:.1%}",
                percent(row.moved), "" if row.accepted is None else percent(row.accepted),
            ]
            for row in one.rows
        ]  # fmt: skip
        parts += [
            f"## {one.name}",
            f"{one.prompts} held-out prompts that the cheapest tier answers wrong; {before}. Beyond ε = "
            f"{one.epsilon:g}: {beyond}. Some perturbation or other moves {one.any_moved:.1%} of them.",
            markdown_table([head, *body]),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def misrouting_figures(found: Sequence[Misrouting]) -> Any:
    """Return the figures as JSON values."""
    return to_json_values(list(found))


def _beside(found: Sequence[Misrouting]) -> str:
    """A line for each of several versions: what moves most, and under what most are sent down."""
    body = []
    for one in found:
        worst, most = max(one.rows, key=lambda row: row.moved.value), one.most_risen
        risen = f"{most.rise.value:+.1%} ({most.rise.low:+.1%} to {most.rise.high:+.1%})"
        down = most.name if most.routed else "none"
        by = worst.name if worst.moved.value else "none"
        body.append(
            [
                one.name, str(one.prompts), f"{one.routed:.1%}", down, risen, by, percent(worst.moved),
                f"{one.any_moved:.0%}", "" if one.ordinary is None else f"{one.ordinary:.1%}",
            ]
        )  # fmt: skip
    head = [
        "version", "prompts", "sent down as they were", "most sent down by", "rise", "most moved by", "moved",
        "any moves", "of ordinary prompts not covered for their parts",
    ]  # fmt: skip
    return markdown_table([head, *body])
