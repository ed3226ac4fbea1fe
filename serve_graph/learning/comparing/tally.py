"""How many requests of a rollout were offered to be compared, and what became of them: by replica, and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from router_models.errors import by_number


@dataclass(slots=True)
class ComparisonTally:
    """What one replica did with the requests of one rollout that were drawn to be compared.

    `offered` = `compared` + all that was `shed`, by why + what waits. Of those compared `ungraded` by why, and `ties`.
    """

    offered: int = 0
    compared: int = 0
    ties: int = 0
    ungraded: Counter[str] = field(default_factory=Counter)
    shed: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "offered": self.offered,
            "compared": self.compared,
            "ties": self.ties,
            "ungraded": dict(self.ungraded),
            "shed": dict(self.shed),
        }


def tallied(before: Mapping[str, Any], told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all replicas did, as evidence keeps it: of a replica that says nothing now, what it said last.

    `before` is what this returned the last time, `told` what replicas say: a tally with the replica's name, and what
    is spent of the day's budget, which is all replicas' together.
    """
    replicas, spent = dict(before.get("replicas") or {}), dict(before.get("today") or {})
    for one in told:
        replicas.pop(str(one["replica"]), None)  # those heard of last come last
        replicas[str(one["replica"])] = _kept(one)
        spent = {"spent_usd": one["spent_usd"], "budget_usd": one["budget_usd"]}
    if len(replicas) > REPLICAS_KEPT:
        silent = list(replicas)[: len(replicas) - REPLICAS_KEPT + 1]
        replicas = {_GONE: _summed([replicas.pop(name) for name in silent]), **replicas}
    found = _summed(replicas.values())
    found["waiting"] = found["offered"] - found["compared"] - sum(found["shed"].values())
    return found | {"today": spent, "replicas": replicas}


def _kept(one: Mapping[str, Any]) -> dict[str, Any]:
    """A replica's tally; those of an earlier release count no ties."""
    return {name: one.get(name, 0) for name in _TOTALS} | {name: one[name] for name in _BY_REASON}


def _summed(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    each = [_kept(one) for one in tallies]
    by_reason = {name: dict(sum((Counter(one[name]) for one in each), Counter())) for name in _BY_REASON}
    return {name: sum(one[name] for one in each) for name in _TOTALS} | by_reason


_TOTALS, _BY_REASON = ("offered", "compared", "ties"), ("ungraded", "shed")
REPLICAS_KEPT = 32
"""How many replicas are told apart; those silent for longest are one, so that evidence does not grow with restarts."""
_GONE = "gone"
STARVES_AT = 0.25
"""The share of what was offered from which on it is said that so much is shed."""
_REMEDIES = {
    "budget": "comparisons.budget_usd_per_day is spent: raise it, or begin a rollout at a lower --rate",
    "busy": "tiers, the judge or the replicas are busy: give them more places, or begin a rollout at a lower --rate",
    "queue": "more is offered than is compared: raise comparisons.concurrency, or begin a rollout at a lower --rate",
    "error": "see the log of the ingress replicas",
}


def tally_sentences(found: Mapping[str, Any]) -> list[str]:
    """What `tallied` returned, in words: what was offered and became of it, the day's budget, and what starves it."""
    shed, said = dict(found["shed"]), dict(found["ungraded"])
    apart = [f"{found['ties']} {by_number(found['ties'], 'tie')}"] if found.get("ties") else []
    apart += [f"{sum(said.values())} not graded: {_by_reason(said)}"] if said else []
    ungraded = f" ({'; '.join(apart)})" if apart else ""
    line = (
        f"offered to be compared: {found['offered']} {by_number(found['offered'], 'request')}; compared: "
        f"{found['compared']}{ungraded}"
    )
    line += f"; waiting: {found['waiting']}; shed: {sum(shed.values())}" + (f" ({_by_reason(shed)})" if shed else "")
    lines, today = [line], found.get("today") or {}
    if today:
        spent = "not known" if today["spent_usd"] is None else f"${today['spent_usd']}"
        lines.append(f"spent on comparing today: {spent} of ${today['budget_usd']}")
    if found["offered"] and sum(shed.values()) >= STARVES_AT * found["offered"]:
        why = max(shed, key=lambda name: int(shed[name]))
        share = 100 * sum(shed.values()) / found["offered"]
        lines.append(f"{share:.0f} % is shed, so that evidence comes more slowly: {_REMEDIES.get(why, why)}")
    return lines


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in sorted(counts.items(), key=lambda one: -one[1]))
