"""How long a version's certificates hold: computed from the configuration at start, looked up once per request.

A certificate ends when it expires, and when a price comes into force that it was not made for. Both are known when the
graph starts, so nothing is hashed while it runs. From that moment nothing cheap is tried or accepted any more.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

from router_models.errors import CertificateError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.certificate import ANSWERS, CertificateSnapshot
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import engine_binds, price_lists
from serve_graph.policy.pays import later_losses

logger = logging.getLogger(__name__)
BEGINNING = datetime.min.replace(tzinfo=UTC)
CHECK_EVERY_S = 60.0
Clock = Callable[[], datetime]


utc_now: Clock = partial(datetime.now, UTC)
"""The wall clock, which expiry and dated prices go by."""


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
    """The periods of a version's own certificate and of those for its prefix and overload points, by tier.

    The default holds for ever: what nothing was promised of.
    """

    whole: ValidityPeriod = ValidityPeriod()
    prefixes: Mapping[str, ValidityPeriod] = field(default_factory=dict)
    overload_points: Mapping[str, ValidityPeriod] = field(default_factory=dict)

    def periods(self) -> dict[str, ValidityPeriod]:
        """Every period by its certificate's name: `answers`, `prefix:<tier>`, `spill:<tier>`."""
        return {
            ANSWERS: self.whole,
            **{f"prefix:{tier}": period for tier, period in self.prefixes.items()},
            **{f"spill:{tier}": period for tier, period in self.overload_points.items()},
        }


def validity_of(version: RouterVersion, config: GraphConfig) -> Validity:
    """Compute when each of a version's certificates holds under a configuration and its dated prices."""
    if version.certificate is None:
        return Validity()
    served, prices = engine_binds(version, config), price_lists(config)
    beside = (version.prefix_certificates, version.overload_certificates)
    certificates = (version.certificate, *(made for by_tier in beside for made in by_tier.values()))
    dated = {moment for listed in prices.values() for moment, _ in listed.changes}
    moments = (BEGINNING, *sorted(dated | {certificate.expires_at for certificate in certificates}))
    binds = [{**served, **version.binds({tier: p.at(moment) for tier, p in prices.items()})} for moment in moments]

    losses = dict(later_losses(version, config, BEGINNING))

    def period(certificate: Certificate) -> ValidityPeriod:
        faults = [_fault(certificate, bound, moment) for bound, moment in zip(binds, moments, strict=True)]
        faults = [
            f"{fault.rstrip('.')}; and {losses[moment]}" if fault is not None and moment in losses else fault
            for fault, moment in zip(faults, moments, strict=True)
        ]
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
    """A validity with a clock: what holds now. A certificate that ends is logged once, by whoever notices first.

    What holds changes at moments that are known beforehand, so it is looked up once between two of them.
    """

    def __init__(self, validity: Validity | None = None, version: str = "none", clock: Clock = utc_now) -> None:
        self.validity = validity or Validity()
        self.version = version
        self.clock = clock
        self._logged: dict[str, str | None] = {}
        self._periods = self.validity.periods()
        self._changes = sorted({moment for period in self._periods.values() for moment in period.since})
        self._revoked: str | None = None
        self._known: CertificateSnapshot | None = None
        self._known_from, self._known_until = BEGINNING, BEGINNING

    def snapshot(self) -> CertificateSnapshot:
        """What holds now, and until when: what one request goes by."""
        now = self.clock()
        if self._known is None or not self._known_from <= now < self._known_until:
            self._known = self._look(now)
        return self._known

    def faults(self) -> Mapping[str, str]:
        """What does not hold now, by the certificate's name, with the reason."""
        return self.snapshot().faults

    def fault(self) -> str | None:
        """Why the version's own certificate does not hold now; None where it does."""
        return self.snapshot().faults.get(ANSWERS)

    def policy(self, policy: Policy) -> Policy:
        """A policy without the prefix and overload points that do not hold now."""
        return self.snapshot().policy(policy)

    def revoke(self, reason: str | None) -> None:
        """From the next request on nothing holds, for this reason; None: what holds by itself does again."""
        if reason != self._revoked:
            self._revoked, self._known = reason, None

    @property
    def revoked(self) -> str | None:
        """Why the version's certificates were revoked; None where they were not."""
        return self._revoked

    def _look(self, now: datetime) -> CertificateSnapshot:
        at = bisect_right(self._changes, now)
        self._known_from = self._changes[at - 1] if at else BEGINNING
        self._known_until = self._changes[at] if at < len(self._changes) else datetime.max.replace(tzinfo=UTC)
        faults, ends = {}, {}
        for name, period in self._periods.items():
            fault, until = self._revoked or period.fault(now), period.until(now)
            if fault is not None:
                faults[name] = fault
            elif until is not None:
                ends[name] = until, period.fault(until) or ""
            if fault != self._logged.get(name):
                self._logged[name] = fault
                logger.warning("%s, %s: %s", self.version, name, fault or "the certificate holds again")
        return CertificateSnapshot(faults, ends, self.clock)

    def left_s(self) -> Mapping[str, float | None]:
        """Seconds that each certificate still holds, by its name: 0 = void, None = no end is known."""
        now, left = self.clock(), {}
        for name, period in self._periods.items():
            until = period.until(now)
            left[name] = (
                0.0 if self._revoked or period.fault(now) else None if until is None else (until - now).total_seconds()
            )
        return MappingProxyType(left)

    def until(self) -> datetime | None:
        """When the version's own certificate ends; None where it has, or where no end is known."""
        return None if self._revoked else self.validity.whole.until(self.clock())

    async def watch(self) -> None:
        """Notice in time, with or without traffic; for ever."""
        while True:
            self.faults()
            ahead = [left for left in self.left_s().values() if left]
            await asyncio.sleep(min([CHECK_EVERY_S, *ahead]))
