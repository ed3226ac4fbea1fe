"""What was certified when a request began, and until when: after that only the clock is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from router_models.versions.policy import Policy
from serve_graph.errors import CertificateVoidError

ANSWERS = "answers"
"""The name of the version's own certificate; those of its points are `prefix:<tier>` and `spill:<tier>`."""


@dataclass(frozen=True, slots=True)
class CertificateSnapshot:
    """What holds at one moment. The default holds for ever: what nothing was promised of.

    `faults`: what does not hold, by name, with the reason. `ends`: when that which holds ends, and with what reason;
    not there where no end is known. A certificate that does not hold when a request begins stays void for it.
    """

    faults: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def fault(self, name: str = ANSWERS) -> str | None:
        """Why a certificate does not hold now; None where it does."""
        if name not in self.ends:
            return self.faults.get(name)
        end, reason = self.ends[name]
        return reason if self.clock() >= end else None

    def check(self) -> None:
        """Raise CertificateVoidError where the version's own certificate does not hold now."""
        if (fault := self.fault()) is not None:
            raise CertificateVoidError(fault)

    def policy(self, policy: Policy) -> Policy:
        """A policy without the prefix and overload points that did not hold: their certificate, or the version's."""
        if not self.faults:
            return policy
        void, faults = ANSWERS in self.faults, self.faults
        return replace(
            policy,
            prefixes={t: point for t, point in policy.prefixes.items() if not void and f"prefix:{t}" not in faults},
            overload_points={
                t: point for t, point in policy.overload_points.items() if not void and f"spill:{t}" not in faults
            },
        )


HOLDS = CertificateSnapshot()
