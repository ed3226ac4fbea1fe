"""Alarms in the decision store: raised once however many replicas find them, and lifted with a reason.

A version that is certified after an alarm lifts it where all of its answers were made since. Certified again on those
of before, it promises by the same evidence what labels have contradicted: the alarm stands against it too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.records.schema import ALARMS
from serve_graph.records.store import DecisionStore

TICKET = "ticket"
"""The kind of what is reported and never acted on."""
GOLDEN = "golden"
"""The kind of alarms that golden tasks raise, not labels."""
_CARRIED = "of "


@dataclass(frozen=True, slots=True)
class Alarm:
    """What labels said against a version's certificate; of kind `ticket`: what changed in its traffic without labels.

    `kind`: `drift`, `revoked`, `golden` or `ticket`. `scope`: `overall` or a slice; of a ticket the figure; from
    golden tasks `golden_FIGURE:TIER`. `acts`: whether it sends everything to the last tier. `lifted_at`,
    `lifted_by`, `lift_reason`: None while it stands. `since`: the last lifting before it was raised, or the series of
    golden runs.
    """

    version: str
    kind: str
    scope: str
    raised_at: str
    reason: str
    acts: bool
    detail: Mapping[str, Any] = field(default_factory=dict)
    lifted_at: str | None = None
    lifted_by: str | None = None
    lift_reason: str | None = None
    since: str = ""

    @property
    def id(self) -> str:
        """The same for all replicas that find it on the same labels."""
        of = repr((self.version, self.kind, self.scope, self.since)).encode("utf-8", "replace")
        return f"alm-{hashlib.sha256(of).hexdigest()[:32]}"

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"id": self.id} | {name: value for name, value in asdict(self).items() if name != "since"}


@dataclass(frozen=True, slots=True)
class CertifiedOn:
    """When a version was certified, and since when the answers were made that it was certified on; None: not known."""

    made_at: datetime
    collected: datetime | None = None

    @classmethod
    def of(cls, certificate: Certificate, tiers: Iterable[str]) -> CertifiedOn:
        """What a certificate for these tiers says of it: of the oldest answer of any of them."""
        since = [certificate.collected.get(tier) for tier in tiers]
        known = [moment for moment in since if moment is not None]
        return cls(certificate.made_at, min(known) if known and len(known) == len(since) else None)


def not_lifted_by(alarms: Sequence[Alarm], version: str, certified: CertifiedOn) -> list[Alarm]:
    """The alarms by labels that stand against a version because it was certified after them, on answers of before.

    `alarms`: those of all versions. A version that was certified before an alarm was raised against another one has
    labels of its own, and is left alone. Those that were found before are not among what is returned.
    """
    known = {alarm.id for alarm in alarms}
    found = []
    for alarm in alarms:
        raised, ours = datetime.fromisoformat(alarm.raised_at), alarm.version == version
        acts = alarm.acts and alarm.lifted_at is None and alarm.kind not in (GOLDEN, TICKET)
        if ours or not acts or alarm.since.startswith(_CARRIED) or not is_of_one_model(alarm.version, version):
            continue
        if raised >= certified.made_at or (certified.collected is not None and certified.collected >= raised):
            continue
        on = "of which it is not known when they were made"
        if certified.collected is not None:
            on = f"made since {certified.collected:%Y-%m-%d %H:%M}, before it was raised"
        why = f"{alarm.reason}; found of {alarm.version}, and {version} was certified again on answers {on}"
        carried = replace(alarm, version=version, reason=why, since=f"{_CARRIED}{alarm.id}")
        if carried.id not in known:
            found.append(carried)
    return found


def is_of_one_model(version: str, other: str) -> bool:
    """Whether two names are of versions of one registered model; two graphs may share a store."""
    return version.rpartition("/")[0] == other.rpartition("/")[0]


class AlarmTable:
    """The alarms of a decision store; with `tickets` its tickets instead, which are kept beside them."""

    def __init__(self, store: DecisionStore, *, tickets: bool = False) -> None:
        self.store = store
        self._ours = ALARMS.c.kind == TICKET if tickets else ALARMS.c.kind != TICKET

    async def raise_all(self, alarms: Sequence[Alarm]) -> list[Alarm]:
        """Add alarms; returns those that nobody had added before. Raises whatever the store or its driver does."""
        new = []
        async with self.store.writing() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            for alarm in alarms:
                insert = dialect.insert(ALARMS).on_conflict_do_nothing(index_elements=["id"]).values(_row_of(alarm))
                if (await connection.execute(insert)).rowcount:
                    new.append(alarm)
        return new

    async def all(self, version: str | None = None) -> list[Alarm]:
        """The alarms of a version, or of all, the newest first; raises StoreUnavailableError."""
        query = select(ALARMS).where(self._ours).order_by(ALARMS.c.raised_at.desc(), ALARMS.c.id)
        if version is not None:
            query = query.where(ALARMS.c.version == version)
        async with self.store.reading() as connection:
            return [_alarm_of(row) for row in (await connection.execute(query)).mappings()]

    async def lift(self, version: str, by: str, why: str, at: str) -> int:
        """Lift every alarm of a version that stands; returns how many there were."""
        stands = self._ours & (ALARMS.c.version == version) & ALARMS.c.lifted_at.is_(None)
        lifted = update(ALARMS).where(stands).values(lifted_at=at, lifted_by=by, lift_reason=why)
        async with self.store.writing() as connection:
            return int((await connection.execute(lifted)).rowcount)


def _row_of(alarm: Alarm) -> dict[str, Any]:
    row = asdict(alarm) | {"id": alarm.id, "detail": json.dumps({**alarm.detail, "since": alarm.since})}
    row.pop("since")
    return row


def _alarm_of(row: Mapping[Any, Any]) -> Alarm:
    detail = json.loads(row["detail"])
    since = detail.pop("since", "")
    return Alarm(**{name: value for name, value in row.items() if name != "id"} | {"detail": detail, "since": since})
