"""Whether each tier answers now, asked of its replicas and cheap enough to be asked every second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ray.serve.exceptions import BackPressureError

from serve_graph.cascade.certificate import ANSWERS
from serve_graph.cluster.replicas.in_process import TierHandle
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.validity import CertificateStatus

ANSWER_WITHIN_S = 2.0
KEEP_S = 1.0
BUSY_S = 10.0
"""A replica that works at full capacity cannot answer a question in time; a reply this recent shows that it lives."""


class TierReadiness:
    """Ask every tier's deployment, at most once in `keep_s` seconds however many ask here.

    A tier that may scale to zero is not asked: that would wake it, or keep it awake. It reads as None.
    """

    def __init__(
        self,
        handles: Mapping[str, TierHandle],
        engines: Mapping[str, HandleEngine],
        *,
        wait_s: float = ANSWER_WITHIN_S,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handles = handles
        self.engines = engines
        self.wait_s = wait_s
        self.keep_s = keep_s
        self.clock = clock
        self.faults: dict[str, str] = {}
        self.seen: set[str] = set()
        """The tiers that have answered so far."""
        self._known: dict[str, bool | None] = {}
        self._until = float("-inf")
        self._asking = asyncio.Lock()

    async def tiers(self) -> dict[str, bool | None]:
        """Tier → whether a replica answered within `wait_s`; None where it may be asleep."""
        async with self._asking:
            if self.clock() >= self._until:
                answers = await asyncio.gather(*map(self._is_ready, self.handles))
                self._known = dict(zip(self.handles, answers, strict=True))
                self._until = self.clock() + self.keep_s
                self.seen.update(tier for tier, answers in self._known.items() if answers)
            return dict(self._known)

    async def _is_ready(self, name: str) -> bool | None:
        engine = self.engines[name]
        if engine.config.scaling.min_replicas == 0:
            return None
        response = self.handles[name].counters.remote()
        try:
            counters = await asyncio.wait_for(response, self.wait_s)
            self._note(name, counters)
        except BackPressureError:
            return True
        except TimeoutError:
            response.cancel()
            return engine.gate.in_flight > 0 and self.clock() - engine.answered_at < BUSY_S
        except Exception:  # noqa: BLE001 (whatever Ray raises, nobody answered)
            return False
        return True

    def _note(self, name: str, counters: Any) -> None:
        """Note in `faults` whether a hosted tier's deployments refuse its key, account or model."""
        refusing = int(counters.get("deployments_refusing", 0)) if isinstance(counters, Mapping) else 0
        self.faults.pop(name, None)
        if refusing:
            self.faults[name] = f"{refusing} deployment(s) refuse the tier's key, account or model; see its log"


def readiness_report(
    version: ServedVersion,
    certificate_status: CertificateStatus,
    tiers: Sequence[str],
    safe_tier: str,
    ready: Mapping[str, bool | None],
    tier_faults: Mapping[str, str] | None = None,
    alarms: Sequence[Mapping[str, Any]] = (),
    *,
    seen: Collection[str] = (),
) -> dict[str, Any]:
    """What `/readyz` says. Ready: the safe tier, which every failure falls back on, answers, or may be asleep.

    Once it has answered (`seen`: the tiers that have), any other tier is enough: to turn every request away because
    one tier is lost would refuse those that the others answer. `tier_faults` does not change it: only requests show
    whether an API takes a key again.
    """
    answer = ready[safe_tier] is not False or (safe_tier in seen and any(one is not False for one in ready.values()))
    served = version.policy
    certificate, until = certificate_status.snapshot(), certificate_status.until()
    faults, points = certificate.faults, certificate.policy(served.policy).overload_points
    return {
        "ready": answer,
        "tiers_ready": ready,
        "tier_faults": dict(tier_faults or {}),
        "tiers": list(tiers),
        "version": served.name,
        "epoch": version.epoch,
        **({"note": version.note} if version.note else {}),
        **_tried(version),
        "certified": served.certified and ANSWERS not in faults,
        "pattern": served.policy.pattern,
        "promise": faults.get(ANSWERS, served.promise),
        "headline": [] if ANSWERS in faults else list(served.headline),
        "valid_until": None if until is None else until.isoformat(),
        "spills": {tier: point.promised for tier, point in points.items()},
        "void": dict(faults),
        "alarms": list(alarms),
        "prefixes": {t: faults.get(f"prefix:{t}", summary) for t, summary in served.prefixes.items()},
        "binds": served.binds,
    }


def _tried(version: ServedVersion) -> dict[str, Any]:
    """The rollout under way, if there is one."""
    rollout = version.rollout
    if rollout is None:
        return {}
    facts = {"kind": rollout.kind, "candidate": rollout.candidate.name, "state": rollout.state}
    return {"rollout": facts | {"weight": rollout.weight}}
