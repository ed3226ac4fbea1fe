"""Which versions a finding of golden tasks is about: a certificate speaks of the models whose answers it rests on.

What was found of a model holds against every version whose answers of that model were made before, whichever is
served then: one that is tried beside the served one, one that somebody promotes by hand afterwards, and one that was
certified again on the same answers. A version that was certified on answers of later was certified on the model of
then, so that its reference begins there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.learning.alarm_table import GOLDEN, Alarm, is_of_one_model


@dataclass(frozen=True, slots=True)
class WatchedVersion:
    """A version that answers requests, and since when the answers were made that its certificate rests on.

    `collected`: by tier; a tier of which that is not known is missing. None: it has no certificate.
    """

    name: str
    collected: Mapping[str, datetime] | None = None

    @classmethod
    def of(cls, name: str, certificate: Certificate | None) -> WatchedVersion:
        """A version with its certificate, None where it has none."""
        return cls(name, None if certificate is None else dict(certificate.collected))

    def concerns(self, found: Alarm) -> bool:
        """Whether what was found speaks against it: it was found of it, or not before its answers were made."""
        return found.version == self.name or self.why(found) is not None

    def why(self, found: Alarm) -> str | None:
        """Why what was found of another version's model speaks against it, in words; None where it does not."""
        if self.collected is None or not is_of_one_model(found.version, self.name):
            return None
        tier = found.scope.partition(":")[2]
        if (made := self.collected.get(tier)) is None:
            return f"of the answers of {tier} that {self.name} was certified on it is not known when they were made"
        if made >= datetime.fromisoformat(found.raised_at):
            return None
        return f"{self.name} was certified on answers of {tier} since {made:%Y-%m-%d %H:%M}, before it was found"


def reference_since(rows: Iterable[Alarm], tier: str, version: WatchedVersion) -> str:
    """When a tier's reference begins for a version.

    That is after what was reported of the tier was closed or lifted, or was found before the version's answers of it
    were made.
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
                if not is_standing or one.raised_at <= since or (before := version.why(one)) is None:
                    continue
                if (version.name, one.scope, one.since) not in known:
                    known.add((version.name, one.scope, one.since))
                    why = f"{one.reason}; found of {one.version}, and {before}"
                    found.append(replace(one, version=version.name, reason=why, acts=True))
    return found


def _is_of(found: Alarm, tier: str) -> bool:
    return found.scope.startswith("golden_") and found.scope.endswith(f":{tier}")
