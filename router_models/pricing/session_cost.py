"""Decide whether a conversation stays on the dearer tier whose cache is warm, or moves to the cheaper one now chosen.

Pure and priced: both alternatives are costed over the turns that are expected to come, and the cheaper one is taken.
Moving *up* is not decided here: a router that no longer trusts the cheap tier is always obeyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from router_models.errors import DataError
from router_models.pricing.prices import MILLION, Price, rounded_usd


@dataclass(frozen=True, slots=True)
class Conversation:
    """Hold what is known of a conversation when its next turn arrives.

    Parameters
    ----------
    prefix : int
        Tokens of the conversation so far.
    cached : int
        The tokens of the prefix that are in the warm tier's cache.
    new : int
        Prompt tokens that each turn adds.
    answer : int
        Tokens of each answer.
    turns : float
        Turns still expected, this one included; at least 1.
    p_escalate : float
        P(a turn tried on the cheaper tier is escalated to the warm one), in [0, 1].

    Raises
    ------
    DataError
        For values outside these ranges.
    """

    prefix: int
    cached: int
    new: int
    answer: int
    turns: float
    p_escalate: float

    def __post_init__(self) -> None:
        if min(self.prefix, self.cached, self.new, self.answer) < 0 or self.turns < 1:
            raise DataError(f"a conversation has counts ≥ 0 and at least one turn to come: {self}")
        if not 0 <= self.p_escalate <= 1:
            raise DataError(f"p_escalate must lie in [0, 1], found {self.p_escalate}")


@dataclass(frozen=True, slots=True)
class Stickiness:
    """Hold the decision whether to stay, and the two amounts that were compared.

    Parameters
    ----------
    stay : bool
        Whether the conversation stays on the warm tier.
    stay_usd, move_usd : Decimal
        US dollars over the expected turns.
    """

    stay: bool
    stay_usd: Decimal
    move_usd: Decimal

    @property
    def reason(self) -> str:
        """Return the comparison in words."""
        verb, sign = ("stays", "≤") if self.stay else ("moves", ">")
        return f"session {verb}: ${self.stay_usd:.9f} to stay {sign} ${self.move_usd:.9f} to move"


def session_cost(talk: Conversation, warm: Price, other: Price) -> Stickiness:
    """Compare staying on the warm tier with moving to the cheaper one, whose cache holds nothing of the conversation.

    Staying: this turn reads `cached` prefix tokens at the cached rate and writes the rest to the cache; later turns
    read the whole prefix from the cache. Moving: the same on the other tier from an empty cache, and with probability
    `p_escalate` a turn of the warm tier in addition. Growth of the prefix over the turns to come is ignored on both
    sides. Equal amounts: stay.

    Parameters
    ----------
    talk : Conversation
        The conversation.
    warm, other : Price
        The prices of the two tiers.

    Returns
    -------
    Stickiness
    """
    later = Decimal(str(talk.turns)) - 1
    cached = min(talk.cached, talk.prefix)
    stay = _turn(talk, warm, cached) + later * _turn(talk, warm, talk.prefix)
    move = _turn(talk, other, 0) + later * _turn(talk, other, talk.prefix)
    stay, move = rounded_usd(stay), rounded_usd(move + Decimal(str(talk.p_escalate)) * stay)
    return Stickiness(stay <= move, stay, move)


def _turn(talk: Conversation, price: Price, read: int) -> Decimal:
    rates = price.rates(talk.prefix + talk.new)
    prefix = rates.cached_rate * read + rates.write_rate * (talk.prefix - read)
    return (prefix + rates.input_usd_per_mtok * talk.new + rates.output_usd_per_mtok * talk.answer) / MILLION
