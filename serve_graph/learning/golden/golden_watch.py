"""Ask every hosted tier the same tasks on schedule, and report a model that changed (docs/guides/learning/golden.md).

One ingress replica at a time does it, whichever holds the row of the store that says when which tier is due; one that
dies is followed by another once its time is up, and begins the run anew. The first runs are the reference. A later one
whose answers differ more than those did from each other opens a ticket; one whose grades fall raises the alarm.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from router_models.monitoring.golden_answers import compare_golden, level_of_run
from serve_graph.config.learning import GoldenConfig
from serve_graph.learning.alarm_table import GOLDEN, TICKET, Alarm, AlarmTable
from serve_graph.learning.alarms import Announce
from serve_graph.learning.golden.asking import GoldenAsker, TierAnswered
from serve_graph.learning.golden.findings import figure_reason, grades_reason, model_reason
from serve_graph.learning.golden.golden_metrics import GoldenMetrics
from serve_graph.learning.golden.run_table import GoldenTable, RecordedRun, grades_so_far
from serve_graph.learning.golden.schedule import GoldenSchedule, moment_text
from serve_graph.learning.golden.standing import WatchedVersion, carried_over, reference_since
from serve_graph.learning.golden.task_set import (
    LEAST_SHARE,
    NoTasksError,
    TaskSet,
    draw_kept,
    fixed_set,
    kept_set,
)
from serve_graph.records.audit import AuditEntry
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
AGAIN_S = 3600.0
"""Seconds after a run that said nothing, as too few calls were answered, or that could not be made."""


class GoldenWatch:
    """Run golden tasks where they are due, compare, and report.

    Parameters
    ----------
    store : DecisionStore
        Where runs, the schedule, tickets and alarms are.
    config : GoldenConfig
        What is asked, how often.
    tiers : mapping of str to str
        The tiers that are asked, each with what names its model and its grader: another one has another reference.
    asker : GoldenAsker
        How they are asked.
    versions : callable
        The version that is served now, which tickets and alarms are about, and after it the one that is tried beside.
    certified : callable
        Whether it has a certificate to revoke.
    announce : callable, optional
        Called with an event and the tickets or alarms it is about, once.
    """

    def __init__(
        self,
        store: DecisionStore,
        config: GoldenConfig,
        tiers: Mapping[str, str],
        asker: GoldenAsker,
        metrics: GoldenMetrics,
        versions: Callable[[], Sequence[WatchedVersion]],
        certified: Callable[[], bool] = lambda: True,
        announce: Announce | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.store = store
        self.tiers = tiers
        self.asker = asker
        self.metrics = metrics
        self.versions = versions
        self.certified = certified
        self.announce = announce
        self.now = now
        self.table = GoldenTable(store)
        lease_s = max(300.0, 6 * config.timeout_s)  # a call, its grading, the waits for a busy tier fit in half of it
        self.schedule = GoldenSchedule(store, lease_s, now=lambda: self.now())
        self.tickets, self.alarms = AlarmTable(store, tickets=True), AlarmTable(store)
        self.audit = AuditLog(store)
        self._seen = -1
        self._carried: tuple[int, tuple[WatchedVersion, ...]] | None = None
        self._fixed: TaskSet | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look every `poll_s` seconds, for ever."""
        said = None
        while True:
            await asyncio.sleep(self.config.poll_s)
            try:
                await self.look()
                fault = None
            except Exception as error:  # noqa: BLE001 (the store, a file, an engine: tried again at the next look)
                fault = f"{type(error).__name__}: {error}"
                if fault != said:
                    logger.warning("golden tasks are not asked: %s", fault)
            said = fault

    async def look(self) -> None:
        """Make the runs that are due, unless another replica does; raises NoTasksError, StoreUnavailableError."""
        state = await self.schedule.read()
        if state.epoch != self._seen:
            await self._note_newest()
            self._seen = state.epoch
        await self._carry_over(state.epoch)
        due = self.schedule.due(state, self.tiers)
        if not due or not await self.schedule.take(state):
            return
        try:
            try:
                tasks = await self._tasks()
            except NoTasksError:
                if self.config.tasks == "kept":  # which the store is read through for
                    for tier in due:
                        await self.schedule.put_off(tier, self._again_s)
                raise
            faults = []
            for tier in due:
                try:
                    goes_on = await self._run(tier, tasks)
                except Exception as error:  # noqa: BLE001 (the other tiers are asked; this one not at every look)
                    faults.append(error)
                    goes_on = await self.schedule.put_off(tier, self._again_s)
                if not goes_on:
                    break
            if faults:
                raise faults[0]
        finally:
            await self.schedule.release()

    async def _run(self, tier: str, tasks: TaskSet) -> bool:
        """Ask one tier, compare and report; returns whether the row is still held."""
        series = self._series(tier, tasks, await self._since(tier))
        earlier = await self.table.of(series)
        answered = await self.asker.ask(tier, tasks, self.schedule.hold)
        if answered is None or not await self.schedule.hold(always=True):
            return False
        number = await self.table.next_number(series)
        run = self._compared(series, number, tier, tasks, answered, earlier)
        await self._report(run, earlier)
        if not await self.table.write(run):
            return False
        await self.table.prune(tier, series)
        self.metrics.runs[tier, run.kind] += 1
        for why, n in answered.failed.items():
            self.metrics.failed[tier, why] += n
        references = sum(one.kind == "reference" for one in (*earlier, run))
        wait_s = self.config.every_s if references >= self.config.reference_runs else self.config.reference_every_s
        return await self.schedule.put_off(tier, self._again_s if run.kind == "failed" else wait_s)

    @property
    def _again_s(self) -> float:
        return max(min(AGAIN_S, self.config.every_s), 1.0)

    def _compared(
        self,
        series: str,
        number: int,
        tier: str,
        tasks: TaskSet,
        answered: TierAnswered,
        earlier: Sequence[RecordedRun],
    ) -> RecordedRun:
        """A run, with what comes of comparing it."""
        asked = {"asked": len(tasks.tasks), "failed": dict(answered.failed), "greedy": answered.greedy}
        run = RecordedRun(series, number, tier, "failed", moment_text(self.now()), answered.answers, asked)
        if len(answered.answers) < LEAST_SHARE * len(tasks.tasks):
            return run
        if sum(one.kind == "reference" for one in earlier) < self.config.reference_runs:
            return replace(run, kind="reference")
        grades = grades_so_far(earlier)
        before, look = [one.compared() for one in earlier], grades.runs + 1
        level = level_of_run(self.config.false_share, len(self.tiers), look)
        figures = compare_golden(before, run.compared(), level)
        found = {
            "look": look,
            "level": level,
            "figures": [change.to_json() for change in figures],
            "grades": asdict(grades.update(before, run.compared())),
            "grades_limit": len(self.tiers) / self.config.alpha,
        }
        return replace(run, kind="compared", detail={**run.detail, **found})

    async def _report(self, run: RecordedRun, earlier: Sequence[RecordedRun]) -> None:
        """Open tickets and raise the alarm where there is reason to, before the run is written: none is lost."""
        if run.kind != "compared":
            return
        version, found = self._served().name, dict[str, str]()
        for change in run.detail["figures"]:
            if change["is_reported"]:
                found[change["figure"]] = figure_reason(run, earlier, change, self.config.false_share)
        if (why := model_reason(run, earlier)) is not None:
            found["model"] = why
        detail = {"run": run.number, "look": run.detail["look"], "figures": run.detail["figures"]}
        tickets = [
            Alarm(version, TICKET, f"golden_{figure}:{run.tier}", run.at, why, False, detail, since=run.series)
            for figure, why in found.items()
        ]
        await self._tell("ticket.opened", "tickets.open", await self.tickets.raise_all(tickets))
        grades = grades_so_far([run])
        if grades.e_value >= run.detail["grades_limit"]:
            why = grades_reason(run, grades, self.config.alpha)
            facts = {"e_value": grades.e_value, "limit": run.detail["grades_limit"], "run": run.number}
            scope, acts = f"golden_grades:{run.tier}", self.certified()
            alarm = Alarm(version, GOLDEN, scope, run.at, why, acts, facts, since=run.series)
            await self._tell("alarm.raised", "alarms.golden", await self.alarms.raise_all([alarm]))

    async def _tell(self, event: str, action: str, new: Sequence[Alarm]) -> None:
        if not new:
            return
        for alarm in new:
            logger.warning("%s: %s", alarm.version, alarm.reason)
        if self.announce is not None:
            task = asyncio.ensure_future(self.announce(event, new))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        key = "figure" if event == "ticket.opened" else "scope"
        await self.audit.write(
            [AuditEntry("graph", action, a.version, a.reason, {**a.detail, key: a.scope}) for a in new]
        )

    async def _tasks(self) -> TaskSet:
        if self.config.tasks != "kept":
            if self._fixed is None or isinstance(self.config.tasks, Path):
                self._fixed = await asyncio.to_thread(fixed_set, self.config)
            return self._fixed
        drawn = self.schedule.kept
        found = await kept_set(self.store, drawn) if drawn else None
        if found is None:
            drawn = await draw_kept(self.store, self.config)
            await self.schedule.keep(drawn)
            found = await kept_set(self.store, drawn)
        if found is None:
            raise NoTasksError("the kept prompts are being deleted")
        return found

    async def _since(self, tier: str) -> str:
        """When a tier's reference begins for the version that is served."""
        return reference_since(await self._reported(), tier, self._served())

    async def _reported(self) -> list[Alarm]:
        return [*await self.tickets.all(), *await self.alarms.all()]

    def _served(self) -> WatchedVersion:
        return self.versions()[0]

    async def _carry_over(self, epoch: int) -> None:
        """Raise what stands against a model for the versions of now, where they or the runs have changed."""
        now = epoch, tuple(self.versions())
        if now == self._carried:
            return
        found = carried_over(await self._reported(), self.tiers, now[1])
        await self._tell("alarm.raised", "alarms.golden", await self.alarms.raise_all(found))
        self._carried = now

    def _series(self, tier: str, tasks: TaskSet, since: str) -> str:
        of = repr((tier, self.tiers[tier], tasks.name, sorted(map(repr, self.config.decoding.items())), since))
        return hashlib.sha256(of.encode("utf-8", "replace")).hexdigest()[:32]

    async def _note_newest(self) -> None:
        for tier in self.tiers:
            for run in await self.table.latest(tier, 1):
                self.metrics.newest[tier] = run
