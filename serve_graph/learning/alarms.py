"""Alarms that act: labels of served answers against the served certificate, looked at by every ingress replica.

A look costs two small queries, and reads the labels where any is new. What is found is written to the store once, by
whichever replica is first; every replica goes by what stands there. A request costs nothing: `act` changes what the
replica's certificate status says of the next one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router_models.errors import by_number
from router_models.monitoring.promise_watch import (
    OVERALL,
    WRONG,
    PromiseWatch,
    WatchedPromise,
    WatchFinding,
    WatchLimits,
    findings_of,
    tests_of,
    watch_promise,
)
from serve_graph.learning.alarm_table import Alarm, AlarmTable, CertifiedOn, not_lifted_by
from serve_graph.learning.labelled import marks_of
from serve_graph.records.audit import AuditEntry, leave
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.feedback import FeedbackTable
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
ENDS = "a version certified on answers made since, or `serve-graph alarms lift`, ends it"
WHOLE_EVERY = 60
"""Of so many looks one reads the labels in any case: a decision may reach the store after its label."""
Announce = Callable[[str, Sequence[Alarm]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class AlarmRules:
    """What an AlarmWatch goes by: the served version and what is promised of it, which labels count, and the limits.

    `watched` is None where nothing is certified: then no label contradicts anything. `drift_acts`: whether an alarm of
    drift goes to the safe mode as well. `certified`: when the served version was, and on answers of when; None: that
    lifts whatever was found of other versions.
    """

    version: str
    watched: WatchedPromise | None
    sources: Collection[str] = ("human", "programmatic")
    label_share: float = 0.05
    limits: WatchLimits = field(default_factory=WatchLimits)
    drift_acts: bool = True
    poll_s: float = 1.0
    certified: CertifiedOn | None = None


class AlarmWatch:
    """Look at the labels and alarms of the served version, and act on what stands.

    Parameters
    ----------
    store : DecisionStore
        Where labels and alarms are.
    rules : AlarmRules
        What it goes by.
    act : callable
        Called with the reason for the safe mode, or None where there is none.
    note : Path, optional
        A file that keeps the reason on this machine, for a restart while the store is away.
    audit_left : Path, optional
        Where audit entries wait that the store does not take.
    announce : callable, optional
        Called with an event and the alarms it is about: of each alarm by one replica only.
    """

    def __init__(
        self,
        store: DecisionStore,
        rules: AlarmRules,
        act: Callable[[str | None], None],
        *,
        note: Path | None = None,
        audit_left: Path | None = None,
        announce: Announce | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rules = rules
        self.act = act
        self.note = note
        self.audit_left = audit_left
        self.announce = announce
        self.now = now
        self.standing: list[Alarm] = []
        self.watched: dict[str, PromiseWatch] = {}
        self.labels = FeedbackTable(store)
        self.alarms = AlarmTable(store)
        self.audit = AuditLog(store)
        self._seen: tuple[tuple[int, str, float], str] | None = None
        self._looks = 0
        self._looking = asyncio.Lock()
        self._is_stopped = False
        self._announcing: set[asyncio.Task[None]] = set()
        self._reason = self._noted()
        if self._reason is not None:
            act(self._reason)

    async def look(self) -> None:
        """Look once, and act; raises StoreUnavailableError or what the driver raises."""
        if self.rules.watched is None:
            return
        async with self._looking:
            alarms, new = await self._alarms()
            since = max((alarm.lifted_at for alarm in alarms if alarm.lifted_at), default="")
            state = (await self.labels.label_state(self._sources()), since)
            self._looks += 1
            if state != self._seen or self._looks % WHOLE_EVERY == 0:
                found = await self._found(since)
                if acting := reason_to_act(found):
                    self.standing = found
                    self._act(acting)  # before the store is told, which may be away by now
                new += await self.alarms.raise_all(found) if found else []
                alarms = await self.alarms.all(self.rules.version) if found else alarms
                self._seen = state
            self.standing = [alarm for alarm in alarms if alarm.lifted_at is None]
            self._act(reason_to_act(self.standing))
            if new:
                await self._tell(new)

    async def _alarms(self) -> tuple[list[Alarm], list[Alarm]]:
        """The version's alarms, and those that were raised now: of earlier versions, which it does not lift."""
        rules = self.rules
        everyone = await self.alarms.all()
        carried = [] if rules.certified is None else not_lifted_by(everyone, rules.version, rules.certified)
        if carried:
            self._act(reason_to_act(carried))  # before the store is told, which may be away by now
            everyone = [*everyone, *carried]
        ours = [alarm for alarm in everyone if alarm.version == rules.version]
        return ours, await self.alarms.raise_all(carried) if carried else []

    async def look_once(self, is_ready: Callable[[], bool], within_s: float = 2.0) -> None:
        """Look as soon as `is_ready`, which says that the store has it; where that takes too long, `run` does."""
        give_up = time.monotonic() + within_s
        while not is_ready():
            if time.monotonic() > give_up:
                return
            await asyncio.sleep(0.02)
        try:
            await self.look()
        except Exception as error:  # noqa: BLE001 (the label is safe; the next look finds it)
            logger.warning("labels and alarms cannot be looked at: %s", error)

    async def know_before_serving(self, within_s: float = 3.0) -> None:
        """Look before the first request; where that is not possible, nothing is promised until a look is."""
        if self.rules.watched is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self.look()
        except Exception as error:  # noqa: BLE001 (the store is away, or hangs)
            logger.warning("labels and alarms cannot be looked at: %s", error)
            if self._reason is None:
                self._reason = "it is not known yet whether an alarm stands against it"
                self.act(self._reason)

    def stop(self) -> None:
        """End `run` after the look that is under way."""
        self._is_stopped = True

    async def run(self) -> None:
        """Look every `poll_s` seconds, until `stop`."""
        while self.rules.watched is not None and not self._is_stopped:
            try:
                await self.look()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever a driver raises: what was known stands)
                logger.warning("labels and alarms cannot be looked at: %s", error)
            await asyncio.sleep(self.rules.poll_s)

    def facts(self) -> list[dict[str, Any]]:
        """The alarms that stand, for `/readyz`."""
        names = ("kind", "scope", "raised_at", "reason", "acts")
        return [{name: getattr(alarm, name) for name in names} for alarm in self.standing]

    def values(self) -> dict[str, float]:
        """Values for `/metrics`: `labels`, `errors`, and how far each kind of test is of all that it needs."""
        found = {"labels": 0.0, "errors": 0.0, "drift": 0.0, "revoked": 0.0}
        for scope, state in self.watched.items():
            if scope == OVERALL:
                found |= {"labels": float(state.n), "errors": state.errors}
            for kind, value, limit in tests_of(scope, state, self.watched, self.rules.limits):
                found[kind] = max(found[kind], value / limit)
        return found

    def _sources(self) -> Collection[str]:
        """Whose labels are looked at: a judge's many are not read where people's count."""
        judge = self.rules.watched.judge if self.rules.watched is not None else None
        return self.rules.sources if judge is None else (judge,)

    async def _found(self, since: str) -> list[Alarm]:
        rules, watched = self.rules, self.rules.watched
        assert watched is not None
        labels = await self.labels.labels(rules.version, since, self._sources())
        self.watched = watch_promise(watched, marks_of(labels, watched, rules.sources, rules.label_share))
        at = self.now().isoformat(timespec="milliseconds")
        return [
            Alarm(
                rules.version,
                finding.kind,
                finding.scope,
                at,
                alarm_reason(finding, watched, rules.limits),
                finding.kind == "revoked" or (rules.drift_acts and finding.scope != WRONG),
                {"labels": finding.n, "errors": finding.errors, "value": finding.value, "limit": finding.limit},
                since=since,
            )
            for finding in findings_of(self.watched, rules.limits)
        ]

    async def _tell(self, alarms: Sequence[Alarm]) -> None:
        if self.announce is not None:
            task = asyncio.ensure_future(self.announce("alarm.raised", alarms))
            self._announcing.add(task)
            task.add_done_callback(self._announcing.discard)
        entries = [
            AuditEntry("graph", f"alarms.{a.kind}", a.version, a.reason, {**a.detail, "scope": a.scope})
            for a in alarms
        ]
        try:
            await self.audit.write(entries)
        except Exception:
            if self.audit_left is None:
                raise
            for entry in entries:
                leave(self.audit_left, entry)

    def _act(self, reason: str | None) -> None:
        if reason == self._reason:
            return
        self._reason = reason
        self.act(reason)
        logger.warning("%s: %s", self.rules.version, reason or "the alarms were lifted")
        if self.note is not None:
            try:
                self.note.write_text(json.dumps({"version": self.rules.version, "reason": reason}), encoding="utf-8")
            except OSError as error:
                logger.warning("%s cannot be written: %s", self.note, error.strerror)

    def _noted(self) -> str | None:
        try:
            found = json.loads((self.note or Path()).read_text(encoding="utf-8")) if self.note is not None else {}
        except (OSError, ValueError):
            return None
        is_ours = isinstance(found, dict) and found.get("version") == self.rules.version
        return str(found["reason"]) if is_ours and self.rules.watched and found.get("reason") else None


def reason_to_act(alarms: Sequence[Alarm]) -> str | None:
    """Why the safe mode is in force under these alarms, a revocation before drift; None where it is not."""
    acting = sorted((alarm.kind == "drift", alarm.reason) for alarm in alarms if alarm.acts)
    return acting[0][1] if acting else None


def alarm_reason(finding: WatchFinding, promise: WatchedPromise, limits: WatchLimits) -> str:
    """One line: what was found, on how many labels, and what that controls."""
    answers = by_number(finding.n, "answer")
    if finding.scope == WRONG:
        counted = (
            f"{finding.errors:g} of {finding.n} labelled {answers} wrong, {finding.bound:.3g} at most when certified"
        )
        return f"wrong answers are more: {counted}; whether they are harm needs the last tier's answers. {ENDS}"
    bad = "harmful" if promise.harm else "wrong"
    counted = (
        f"{finding.errors:g} of {finding.n} labelled {answers} {bad}, where {finding.bound:g} at most was promised"
    )
    where = "" if finding.scope == OVERALL else f" in slice {finding.scope}"
    if finding.kind == "revoked":
        why = f"e-value {finding.value:.3g}, limit {finding.limit:.3g}: a false one with probability {limits.alpha:g}"
        return f"revoked by labels{where}: {counted} ({why} at most); {ENDS}"
    why = f"detector {finding.value:.3g}, limit {finding.limit:.3g}: a false one in {limits.run_length:g} labels"
    return f"drift by labels{where}: {counted} ({why} on average); {ENDS}"
