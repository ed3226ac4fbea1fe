"""Shares of few labels with exact intervals."""

from __future__ import annotations

from typing import Any

EXACT_LEVEL = 0.95


def exact_share(count: int, of: int, unknown: int = 0) -> dict[str, Any]:
    """A share with Clopper and Pearson's 95 % interval.

    `unknown`: so many of `of` may be or not; the interval begins as if none of them were and ends as if all were.
    """
    low, _ = exact_interval(count, of)
    _, high = exact_interval(count + unknown, of)
    share = count / (of - unknown) if of > unknown else None
    return {"share": share, "low": low, "high": high, "count": count, "of": of, "unknown": unknown}


def exact_interval(count: int, of: int, missed: float = 1 - EXACT_LEVEL) -> tuple[float, float]:
    """The ends of Clopper and Pearson's interval, outside of which a share is with probability `missed` at most.

    Of nothing everything may be.
    """
    from scipy.special import betaincinv

    tail = missed / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def share_text(found: dict[str, Any]) -> str:
    """A share in words: the count, and per cent with the interval."""
    low, high = 100 * found["low"], 100 * found["high"]
    known = "" if found["share"] is None else f"{100 * found['share']:.1f} % "
    said = f"{found['count']:,} of {found['of'] - found['unknown']:,}, {known}({low:.1f} to {high:.1f})"
    return said if not found["unknown"] else f"{said}, {found['unknown']:,} not known"
