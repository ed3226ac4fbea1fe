"""Which versions a finding of golden tasks is about: a certificate speaks of the models as they were when it was made.

What was found of a model holds against every version that was certified before, whichever is served then: one that is
tried beside the served one, or that somebody promotes by hand afterwards. A version that was certified later was
certified on the model of then, so that its reference begins there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from serve_graph.learning.alarm_table import GOLDEN, Alarm


@dataclass(frozen=True, slots=True)
class WatchedVersion:
    """A version that answers requests, and when its certificate was made; None: it has none."""

    name: str
    made_at: datetime | None = None

    def concerns(self, found: Alarm) -> bool:
        """Whether what was found speaks against it: it was found of it, or after its certificate was made."""
        before = self.made_at is not None and self.made_at < datetime.fromisoformat(found.raised_at)
        return found.version == self.name or before


def reference_since(rows: Iterable[Alarm], tier: str, version: WatchedVersion) -> str:
    """When a tier's reference begins for a version.

    That is after what was reported of the tier was closed or lifted, or was found before the version was certified.
    """
    ended = [
        one.lifted_at or one.raised_at
        for one in rows
        if _is_of(one, tier) and (one.lifted_at is not None or not version.concerns(one))
    ]
    return max(ended, default="")


def carried_over(rows: Sequence[Alarm], tiers: Iterable[str], versions: Iterable[WatchedVersion]) -> list[Alarm]:
    """The alarms that stand against a version because of what was found of another one's models.

    `rows` are alarms and tickets, those that were lifted included. Whoever closes a ticket lifts no alarm.
    """
    alarms = [one for one in rows if one.kind == GOLDEN]
    known = {(one.version, one.scope, one.since) for one in alarms}
    found = []
    for version in versions:
        for tier in tiers:
            since = reference_since(alarms, tier, version)
            for one in alarms:
                is_standing = one.lifted_at is None and _is_of(one, tier)
                if not is_standing or not version.concerns(one) or one.raised_at <= since:
                    continue
                if (version.name, one.scope, one.since) not in known:
                    known.add((version.name, one.scope, one.since))
                    why = f"{one.reason}; found of {one.version}, and {version.name} was certified before"
                    found.append(replace(one, version=version.name, reason=why, acts=True))
    return found


def _is_of(found: Alarm, tier: str) -> bool:
    return found.scope.startswith("golden_") and found.scope.endswith(f":{tier}")
