"""Whether a conversation should stay on the dearer tier whose cache is warm, or move to the cheaper one now chosen.

Pure and priced: both ways are costed over the turns that are expected to come, and the cheaper one is taken. Moving
*up* is never asked here: a router that no longer trusts the cheap tier is always obeyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from router_models.errors import DataError
from router_models.pricing.prices import MILLION, Price, rounded_usd


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of a conversation when its next turn arrives; counts are tokens.

    `cached` of the prefix are in the warm tier's cache. `turns` (this one included) are still expected, each adding
    `new` prompt tokens and an answer of `answer` tokens. `p_escalate`: the chance that a turn tried on the cheaper
    tier ends on the warm one all the same.
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
    """Whether to stay, and the two amounts that were compared (dollars over the expected turns)."""

    stay: bool
    stay_usd: Decimal
    move_usd: Decimal

    @property
    def reason(self) -> str:
        """The comparison in words."""
        verb, sign = ("stays", "≤") if self.stay else ("moves", ">")
        return f"session {verb}: ${self.stay_usd:.9f} to stay {sign} ${self.move_usd:.9f} to move"


def session_cost(talk: Conversation, warm: Price, other: Price) -> Stickiness:
    """Compare staying on `warm` with moving to the cheaper `other`, whose cache holds nothing of the conversation.

    Staying: this turn reads `cached` prefix tokens at the cached rate and writes the rest to the cache; later turns
    read the whole prefix from the cache. Moving: the same on the other tier from an empty cache, and with probability
    `p_escalate` a turn of the warm tier on top. Growth of the prefix over the turns to come is left out on both
    sides. Equal amounts: stay.
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
