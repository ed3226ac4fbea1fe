"""Drives the rollout of a model step by step, for the controller: looks at what is known, and moves it by rule.

Every change is written, with its audit entry, before anything follows from it; a controller that is killed anywhere
finds in the store how far it came. Where the store cannot be asked nothing moves; where the
registry cannot, a candidate is taken back at most.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from router_models.errors import RegistryError, RouterModelsError
from router_models.monitoring.canary import CanaryEvidence, PairedRequest
from router_models.versions.registry import find_version
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError
from serve_graph.learning.alarm_table import AlarmTable
from serve_graph.learning.alarms import reason_to_act
from serve_graph.learning.comparing.tally import tallied
from serve_graph.policy.promotion import check_promotable, point_alias
from serve_graph.policy.rollout.audited import change_entry
from serve_graph.policy.rollout.candidate import CandidateLookup
from serve_graph.policy.rollout.outcomes import (
    RolloutOutcomes,
    moment_before,
    pairs_settle_after_s,
    settles_after_s,
)
from serve_graph.policy.rollout.rules import RolloutFacts, due_event
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.step_check import StepCheck
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent, next_state
from serve_graph.policy.rollout.units import UnitOutcomes
from serve_graph.policy.served_version import ServedRollout, ServedVersion
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
QUICK_S, RESTS_TIMES = 0.25, 20.0
"""Seconds within which evidence is read at every look; what takes longer rests so many times as long."""
ALIAS_MOVED = "alias_moved"
"""Noted with the evidence once a promotion has moved the alias."""
ReadPairs = Callable[[str, str], Awaitable[list[PairedRequest]]]
"""The pairs of a rollout whose requests came before a moment, in this order."""
ReadTallies = Callable[[str], Awaitable[list[Mapping[str, Any]]]]
"""What every replica says became of the requests of a rollout that were offered to be compared."""


@dataclass
class Observed:
    """What was observed of one rollout, and the evidence that it makes; `came`: when the pairs that count came.

    It is read again where there may be more, not before `rests_until` (seconds of the monotonic clock).
    """

    outcomes: RolloutOutcomes
    evidence: CanaryEvidence
    counts: tuple[int, int] = (-1, -1)
    came: tuple[str, ...] = ()
    rests_until: float = 0.0


class RolloutDriver:
    """Moves the rollout of the configuration's model, if there is one.

    Parameters
    ----------
    config : GraphConfig
        Whose model, registry and limits.
    store : DecisionStore
        Where rollouts, alarms and decisions are.
    pairs : callable, optional
        The requests that both versions of a rollout have decided, in order; None: none are compared.
    tallies : callable, optional
        What became of those that were offered to be compared; None: nobody says.
    """

    def __init__(
        self,
        config: GraphConfig,
        store: DecisionStore,
        pairs: ReadPairs | None = None,
        tallies: ReadTallies | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.store = store
        self.pairs = pairs
        self.tallies = tallies
        self.now = now
        self.table = RolloutTable(store)
        self.candidates = CandidateLookup(config, now)
        self.check = StepCheck(config, store)
        self.limits = config.rollouts.limits()
        self._observed: dict[str, Observed] = {}

    async def look(self, served: ServedVersion) -> ServedRollout | None:
        """Move the rollout where a rule says so; returns what is to be tried beside `served`.

        What is promoted was loaded before: the alias moves at a look after the one that has it tried beside.

        Raises StoreUnavailableError, and RegistryError, where it cannot be known: what is tried stays so.
        """
        rollout, tried = await self.table.active(self.config.policy.model_name), served.rollout
        if rollout is None:
            self._observed.clear()
            return None
        if served.name != rollout.stable:
            became = served.name == rollout.candidate
            why = "it is served" if became else f"{served.name} is served instead of {rollout.stable}"
            await self._move(rollout, Happened.STABLE_CHANGED, why, stable=served.name)
            return None
        try:
            candidate = await asyncio.to_thread(self.candidates.look, rollout)
        except RegistryError:
            if await self._is_taken_back(rollout):
                return None
            raise
        if isinstance(candidate, str):
            await self._move(rollout, Happened.WITHDRAWN, candidate)
            return None
        if rollout.state is RolloutState.PROMOTING:
            is_loaded = tried is not None and tried.id == rollout.id and tried.candidate.serves_as(candidate)
            return _tried(await self._promote(rollout) if is_loaded else rollout, candidate)
        facts, observed = await self._facts(rollout)
        due = await self._affordable(rollout, due_event(rollout, facts, self.now()))
        if due is not None:
            return _tried(await self._move(replace(rollout, evidence=observed), *due), candidate)
        if json.dumps(observed) != json.dumps(rollout.evidence):
            await self.table.note_evidence(rollout, observed)
        return _tried(rollout, candidate)

    async def _affordable(self, rollout: Rollout, due: tuple[Happened, str] | None) -> tuple[Happened, str] | None:
        """What is due, but a pause where the tiers cannot carry the greater share, or it loses money."""
        if due is None or due[0] not in (Happened.STEP_PASSED, Happened.EVIDENCE_PROMOTE):
            return due
        wanted = 1.0 if due[0] is Happened.EVIDENCE_PROMOTE else rollout.steps[rollout.step + 1] / 100
        fault = await self.check.fault(rollout, wanted, self.now())
        return due if fault is None else (Happened.PAUSE, f"{100 * wanted:g} % is not passed: {fault}")

    async def _is_taken_back(self, rollout: Rollout) -> bool:
        """Take a candidate back for which evidence or an alarm gives reason, whatever the registry says of it."""
        if rollout.state is RolloutState.PROMOTING:
            return False
        facts, observed = await self._facts(rollout)
        due = due_event(rollout, facts, self.now())
        if due is None or due[0] is not Happened.EVIDENCE_ROLL_BACK:
            return False
        return not (await self._move(replace(rollout, evidence=observed), *due)).is_active

    async def not_loadable(self, rollout_id: str, reason: str) -> None:
        """End a rollout whose candidate no replica can load."""
        rollout = await self.table.get(rollout_id)
        if rollout is not None and rollout.is_active:
            await self._move(rollout, Happened.NOT_LOADABLE, reason)

    async def _promote(self, rollout: Rollout) -> Rollout:
        """Move the alias, once, which the graph follows; a person who moves it back has the last word."""
        moved = bool(rollout.evidence.get(ALIAS_MOVED))
        fault = None if moved else await self.check.fault(rollout, 1.0, self.now())
        if fault is not None:
            return await self._move(rollout, Happened.PROMOTE_REFUSED, f"not promoted: {fault}")
        try:
            names_it = await asyncio.to_thread(self._point_alias, rollout, moved)
        except RegistryError:
            raise
        except (ServeGraphError, RouterModelsError) as error:
            return await self._move(rollout, Happened.PROMOTE_REFUSED, f"not promoted: {error}")
        if not names_it:
            why = f"{self.config.policy.version} was pointed elsewhere while it was promoted"
            return await self._move(rollout, Happened.WITHDRAWN, why)
        if not moved:
            await self.table.note_evidence(rollout, {**rollout.evidence, ALIAS_MOVED: True})
        return rollout

    def _point_alias(self, rollout: Rollout, moved: bool) -> bool:
        """Point the alias at the candidate unless that was done before; returns whether it names it."""
        policy = self.config.policy
        found = find_version(self.config.registry_uri, rollout.model, rollout.candidate.rpartition("/")[2])
        named = find_version(self.config.registry_uri, rollout.model, policy.version)
        if found is None or moved or (named is not None and named.number == found.number):
            return found is not None and named is not None and named.number == found.number
        check_promotable(found, self.config)
        point_alias(found, self.config, policy.version)
        return True

    async def _facts(self, rollout: Rollout) -> tuple[RolloutFacts, Mapping[str, Any]]:
        """What the rules go by, and the same as evidence to be kept."""
        held, alarm = await self._alarm(rollout.stable), await self._alarm(rollout.candidate)
        known = await self._observe(rollout)
        found = known.evidence
        step_pairs = sum(came >= rollout.step_at for came in known.came)
        entry = {"step_at": rollout.step_at, "step_pairs": step_pairs, **found.to_json()}
        if rollout.rate and self.tallies is not None:
            entry["comparing"] = tallied(rollout.evidence.get("comparing") or {}, await self.tallies(rollout.id))
        if held is not None:
            entry["held"] = f"an alarm stands against {rollout.stable}: {held}"
        failed = [f"{f.name} ({f.scope})" for f in found.findings if f.reached and f.effect == "roll_back"]
        facts = RolloutFacts(
            step_pairs,
            found.verdict,
            f"worse by evidence: {', '.join(failed)}",
            entry.get("held"),
            None if alarm is None else f"an alarm stands against it: {alarm}",
        )
        return facts, entry

    async def _alarm(self, version: str) -> str | None:
        """Why an alarm acts against a version; None where none does."""
        found = await AlarmTable(self.store).all(version)
        return reason_to_act([alarm for alarm in found if alarm.lifted_at is None])

    async def _observe(self, rollout: Rollout) -> Observed:
        """All that was observed so far; reading it takes a small part of the time at most."""
        if rollout.id not in self._observed:
            outcomes = RolloutOutcomes(self.store, rollout, settles_after_s(self.config))
            self._observed = {rollout.id: Observed(outcomes, CanaryEvidence.of([], [], self.limits))}
        known, began = self._observed[rollout.id], time.monotonic()
        if known.rests_until > began:
            return known
        edge = moment_before(self.now(), pairs_settle_after_s(self.config))
        pairs = [] if self.pairs is None else await self.pairs(rollout.id, edge)
        units = UnitOutcomes() if rollout.kind == "shadow" else await known.outcomes.read(self.now())
        if (len(pairs), len(units)) != known.counts:
            known.evidence = await asyncio.to_thread(CanaryEvidence.of, pairs, units, self.limits)
            known.counts = len(pairs), len(units)
            firsts = {pair.group or f"{n}": pair for n, pair in reversed(list(enumerate(pairs)))}
            known.came = tuple(pair.came_at or rollout.step_at for pair in firsts.values())
        took = time.monotonic() - began
        known.rests_until = began + (RESTS_TIMES * took if took > QUICK_S else 0.0)
        return known

    async def _move(self, rollout: Rollout, what: Happened, why: str, stable: str | None = None) -> Rollout:
        """Make a change that is due; what somebody else has changed meanwhile is looked at the next time."""
        event = RolloutEvent(what, self.now().isoformat(timespec="milliseconds"), reason=why, stable=stable)
        after = next_state(rollout, event)
        if not await self.table.change(rollout, after, change_entry(rollout, after, event)):
            return rollout
        logger.warning(
            "the rollout of %s: %s, %g %% of traffic: %s", after.candidate, after.state, 100 * after.weight, why
        )
        return after


def _tried(rollout: Rollout, candidate: ServedVersion) -> ServedRollout | None:
    """What ingress replicas are to try at a rollout's state; a paused shadow compares nothing."""
    if not rollout.is_active:
        return None
    is_idle = rollout.kind == "shadow" and rollout.state is RolloutState.PAUSED
    rate = 0.0 if is_idle else rollout.rate
    return ServedRollout(rollout.id, rollout.kind, rollout.weight, rate, candidate, str(rollout.state))
