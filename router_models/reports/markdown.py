"""Cells, sentences and tables of the project's Markdown pages."""

from __future__ import annotations

from collections.abc import Sequence

from router_models.metrics import Interval


def spread(interval: Interval, scale: float, digits: int) -> str:
    """A figure with its interval in brackets, times `scale`; the bare figure where the interval is a point."""
    value, low, high = (f"{scale * x:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return value if low == high else f"{value} ({low} to {high})"


def percent(interval: Interval) -> str:
    """A share with its interval, in percent."""
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def sentence(text: str) -> str:
    """A clause as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!")) else ".")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table; the first row is the head."""
    clean = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    head, *body = ["| " + " | ".join(row) + " |" for row in clean]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def dollars(amount: float) -> str:
    """An amount with cents where it is small."""
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:,.2f}" if amount >= 0.01 else f"${amount:.2g}"
