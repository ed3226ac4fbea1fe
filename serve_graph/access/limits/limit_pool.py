"""A limit and what the store has left of it: the arithmetic by which one replica's lease grows and shrinks.

Amounts are whole billionths of a request, a token, a place or a dollar.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = 10**9
"""A request, a token, a place or a dollar, in what leases are counted in."""
MOST_UNITS = 2**62
"""No limit is larger: the store's numbers have 64 bits."""


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """A limit: its name, its size, what it gains a second, and whether what is used comes back (places do).

    `spent` counts where the store does not know the limit yet: what was spent of it before.
    """

    name: str
    size: int
    per_s: int = 0
    comes_back: bool = False
    spent: int = 0

    @property
    def is_budget(self) -> bool:
        """Whether what is spent of it does not come back at all."""
        return self.per_s == 0 and not self.comes_back


@dataclass(frozen=True, slots=True)
class LimitPool:
    """What is left of a limit that nobody has leased (below 0: debts), of which size it is, and when that was so."""

    level: int
    size: int
    at_ms: int


def settled(
    pool: LimitPool | None, terms: LimitTerms, others: int, own: int, spent: int, wanted: int, now_ms: int
) -> tuple[LimitPool, int]:
    """What is left of a limit, and what a replica holds, after it has asked.

    Parameters
    ----------
    pool : LimitPool, optional
        What was left; None: the limit is new.
    terms : LimitTerms
        The limit as it is now.
    others, own : int
        What other replicas hold, and what this one held, in leases that have not ended.
    spent, wanted : int
        What this one has spent since it asked last, and how much it wants to hold.
    now_ms : int
        The store's time.
    """
    if pool is None:
        pool = LimitPool(terms.size - terms.spent - others - own, terms.size, now_ms)
    held = own - spent
    if terms.comes_back:
        held = own
        level = terms.size - others - held
    else:
        level = pool.level + terms.size - pool.size + min(held, 0)
        held = max(held, 0)
        gained = terms.per_s * max(0, now_ms - pool.at_ms) // 1000
        level = min(level + gained, terms.size - others - held)
    change = wanted - held
    change = min(change, max(level, 0)) if change > 0 else change
    return LimitPool(level - change, terms.size, max(now_ms, pool.at_ms)), held + change
