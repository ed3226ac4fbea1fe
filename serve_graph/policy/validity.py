"""How long a version's certificates hold: foretold from the configuration, asked at every decision and verdict.

A certificate ends when it expires, and when a price comes into force that it was not made for. Both are known when the
graph starts, so nothing is hashed while it runs. From that moment nothing cheap is tried or accepted any more.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

from router_models.errors import CertificateError
from router_models.risk_control.certificate import Certificate
from router_models.types import PREFIX_FINISH, Action, Completion, Decision, Query, Verdict
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.interfaces import Decider, Judge
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import CertificateVoidError
from serve_graph.policy.bindings import price_lists, tier_binds

logger = logging.getLogger(__name__)
BEGINNING = datetime.min.replace(tzinfo=UTC)
LOOK_EVERY_S = 60.0
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, which expiry and dated prices go by."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ValidityPeriod:
    """One certificate over time: `faults[i]` is what is wrong with it from `since[i]` on, None while it holds."""

    since: tuple[datetime, ...] = (BEGINNING,)
    faults: tuple[str | None, ...] = (None,)

    def fault(self, now: datetime) -> str | None:
        """Why it does not hold at this moment; None where it does."""
        return self.faults[bisect_right(self.since, now) - 1]

    def until(self, now: datetime) -> datetime | None:
        """The next moment from which it does not hold; None where there is none, or where it does not hold now."""
        ends = (moment for moment, fault in zip(self.since, self.faults, strict=True) if moment > now and fault)
        return None if self.fault(now) else next(ends, None)


@dataclass(frozen=True, slots=True)
class Validity:
    """The terms of a version's own certificate and of those for its prefix and spill points, by tier.

    The default holds for ever: what nothing was promised of.
    """

    whole: ValidityPeriod = ValidityPeriod()
    prefixes: Mapping[str, ValidityPeriod] = field(default_factory=dict)
    overload_points: Mapping[str, ValidityPeriod] = field(default_factory=dict)

    def periods(self) -> dict[str, ValidityPeriod]:
        """Every term by a name for people: `answers`, `prefix:<tier>`, `spill:<tier>`."""
        return {
            "answers": self.whole,
            **{f"prefix:{tier}": period for tier, period in self.prefixes.items()},
            **{f"spill:{tier}": period for tier, period in self.overload_points.items()},
        }


def validity_of(version: RouterVersion, config: GraphConfig) -> Validity:
    """Foretell when each of a version's certificates holds under a configuration and its dated prices."""
    if version.certificate is None:
        return Validity()
    served, prices = tier_binds(config), price_lists(config)
    beside = (version.prefix_certificates, version.overload_certificates)
    certificates = (version.certificate, *(made for by_tier in beside for made in by_tier.values()))
    dated = {moment for listed in prices.values() for moment, _ in listed.changes}
    moments = (BEGINNING, *sorted(dated | {certificate.expires_at for certificate in certificates}))
    binds = [{**served, **version.binds({tier: p.at(moment) for tier, p in prices.items()})} for moment in moments]

    def period(certificate: Certificate) -> ValidityPeriod:
        faults = [_fault(certificate, bound, moment) for bound, moment in zip(binds, moments, strict=True)]
        return ValidityPeriod(moments, tuple(faults))

    prefixes, overload_points = ({tier: period(made) for tier, made in by_tier.items()} for by_tier in beside)
    return Validity(period(version.certificate), prefixes, overload_points)


def _fault(certificate: Certificate, binds: Mapping[str, str], moment: datetime) -> str | None:
    try:
        certificate.check(binds, moment)
    except CertificateError as error:
        return str(error)
    return None


class CertificateStatus:
    """A validity with a clock: what holds now. A certificate that ends is logged once, by whoever notices first."""

    def __init__(self, validity: Validity | None = None, version: str = "none", clock: Clock = utc_now) -> None:
        self.validity = validity or Validity()
        self.version = version
        self.clock = clock
        self._said: dict[str, str | None] = {}

    def faults(self) -> dict[str, str]:
        """What does not hold now, by the name of its term, with the reason."""
        now = self.clock()
        found = {name: period.fault(now) for name, period in self.validity.periods().items()}
        for name, fault in found.items():
            if fault != self._said.get(name):
                self._said[name] = fault
                logger.warning("%s, %s: %s", self.version, name, fault or "the certificate holds again")
        return {name: fault for name, fault in found.items() if fault is not None}

    def check(self) -> None:
        """Raise CertificateVoidError where the version's own certificate does not hold now."""
        if fault := self.faults().get("answers"):
            raise CertificateVoidError(fault)

    def policy(self, policy: Policy) -> Policy:
        """A policy without the prefix and spill points that do not hold now: their certificate, or the version's."""
        faults = self.faults()
        if not faults:
            return policy
        void = "answers" in faults
        return replace(
            policy,
            prefixes={t: point for t, point in policy.prefixes.items() if not void and f"prefix:{t}" not in faults},
            overload_points={
                t: point for t, point in policy.overload_points.items() if not void and f"spill:{t}" not in faults
            },
        )

    def left_s(self) -> Mapping[str, float | None]:
        """Seconds that each certificate still holds, by the name of its term: 0 = void, None = no end is known."""
        now, left = self.clock(), {}
        for name, period in self.validity.periods().items():
            until = period.until(now)
            left[name] = 0.0 if period.fault(now) else None if until is None else (until - now).total_seconds()
        return MappingProxyType(left)

    def until(self) -> datetime | None:
        """When the version's own certificate ends; None where it has, or where no end is known."""
        return self.validity.whole.until(self.clock())

    async def watch(self) -> None:
        """Notice in time, with or without traffic; for ever."""
        while True:
            self.faults()
            ahead = [left for left in self.left_s().values() if left]
            await asyncio.sleep(min([LOOK_EVERY_S, *ahead]))


@dataclass(frozen=True, slots=True)
class CertifiedPolicy:
    """Decider and Judge that stop at the end of the certificate: nothing is decided or accepted after it.

    What was accepted before goes on: an answer that streams already was certified when it was let through. A verdict
    on a beginning needs the prefix's own certificate; where that alone has ended, it is an escalation.
    """

    decider: Decider
    judged_by: Judge
    certificate_status: CertificateStatus

    async def decide(self, query: Query) -> Decision:
        self.certificate_status.check()
        return await self.decider.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        self.certificate_status.check()
        verdict = await self.judged_by.judge(query, completion, decision)
        self.certificate_status.check()
        fault = self.certificate_status.faults().get(f"prefix:{decision.tier}")
        if completion.finish_reason == PREFIX_FINISH and fault and verdict.action is Action.ACCEPTED:
            return Verdict(Action.ESCALATED, fault, verdict.p_ok)
        return verdict
