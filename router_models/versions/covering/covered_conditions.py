"""Which conditions a certificate covers: those that enough of its CERT rows were asked under; no label is read.

Conditions of fewer than `LEAST_ROWS` rows are not covered, and such rows do not count as evidence either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router_models.types.conditions import Conditions
from router_models.types.coverage import Coverage
from router_models.types.declared import LARGE

LEAST_ROWS = 20
"""The CERT rows that a condition needs in order to be covered."""
NOVELTY_QUANTILE = 0.95
"""A prompt farther from the training data than this share of TUNE's prompts is novel."""


def covered_conditions(
    rows: Sequence[Conditions],
    novelty: float | None = None,
    least: int = LEAST_ROWS,
    longest: int | None = None,
    distances: Sequence[float] | None = None,
) -> Coverage:
    """Return the conditions that at least `least` of these CERT rows were asked under.

    Parameters
    ----------
    rows : sequence of Conditions
        Of every CERT row that may count.
    novelty : float, optional
        The `NOVELTY_QUANTILE` of TUNE's distances.
    least : int
        The rows that a condition needs.
    longest : int, optional
        Tokens of the longest answer of these rows: a request that permits as many is cut no earlier.
    distances : sequence of float, optional
        How far every row's prompt lies from the training data; rows beyond `novelty` count for nothing.
    """
    far = [None] * len(rows) if distances is None else list(distances)
    near = Coverage(novelty=novelty)
    rows, every = [row for row, at in zip(rows, far, strict=True) if at is None or near.novel(at) is None], rows
    frequent = _frequent(rows, least)
    counted = [row for row in rows if frequent.uncovered(row) is None]

    def extreme(values: Sequence[float], otherwise: float) -> float:
        return sorted(values)[least - 1] if len(values) >= least else otherwise

    limits = [math.inf if row.max_tokens is None else row.max_tokens for row in counted]
    limit = min(extreme(limits, math.inf), math.inf if longest is None else max(longest, 1))
    most, fewest = (
        int(-extreme([-row.turns for row in counted], -1)),
        int(extreme([row.turns for row in counted], 1)),
    )

    own = sum(row.max_tokens is None for row in counted) >= least
    longer = sorted((row.max_tokens for row in counted if row.max_tokens is not None), reverse=True)[least - 1 :]

    def within(found: Coverage) -> Coverage:
        tokens = None if limit == math.inf else int(limit)
        found = replace(found, turns=most, least_turns=fewest, max_tokens=tokens, novelty=novelty)
        return replace(found, own_limits=own, most_tokens=longer[0] if longer else None)

    inside = within(frequent)
    found = within(_frequent([row for row in counted if inside.uncovered(row) is None], least))
    reasons = Counter(found.uncovered(row, at) for row, at in zip(every, far, strict=True))
    left_out = Counter({why.reason: 0 for why in reasons if why is not None})
    for why, count in reasons.items():
        left_out.update({} if why is None else {why.reason: count})
    return replace(found, n=reasons[None], left_out=tuple(sorted(left_out.items())))


def _frequent(rows: Sequence[Conditions], least: int) -> Coverage:
    """The values of each condition that enough rows had; a row that one of them excludes counts for no other."""

    def often(name: str) -> tuple[Any, ...]:
        counts = Counter(getattr(row, name) for row in rows)
        return tuple(sorted(value for value, count in counts.items() if count >= least))

    tools, loops, prefilled = (often(name) for name in ("tools", "tool_loop", "prefilled"))
    found = Coverage(
        often("decoding"),
        often("system_prompt"),
        max((row.turns for row in rows), default=1),
        True in tools,
        often("response_format"),
        True in loops,
        True in prefilled,
        only_tools=tools == (True,),
        only_tool_loops=loops == (True,),
        only_prefilled=prefilled == (True,),
        declared=tuple(one for one in often("declared") if one not in ("", LARGE)),
        schemas=tuple(one for one in often("schema") if one != LARGE),
    )
    kept = [row for row in rows if found.uncovered(row) is None]
    return found if len(kept) == len(rows) else _frequent(kept, least)
