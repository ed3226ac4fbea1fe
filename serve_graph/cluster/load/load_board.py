"""What the ingress replicas expect each tier to be asked soon, as it is known in the process of Serve's controller.

Ray Serve gives a deployment's autoscaling policy that deployment's metrics alone. All policies run in one process, so
the ingress's puts here what the tiers' read. `scaling_policy`, pickled by value, imports this module by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAID_WITHIN_S = 15.0
"""What was said longer ago counts for nothing: the ingress may be gone."""


@dataclass(slots=True)
class LoadBoard:
    """Expected calls by application and tier, with the time at which they were last put here."""

    _calls: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def put(self, application: str, expected: dict[str, float], now: float) -> None:
        """Replace what is expected of an application's tiers."""
        for tier, calls in expected.items():
            self._calls[(application, tier)] = (calls, now)

    def expected(self, application: str, tier: str, now: float) -> float:
        """Calls that a tier will soon have; 0 where nobody has said so lately."""
        calls, at = self._calls.get((application, tier), (0.0, float("-inf")))
        return calls if now - at <= SAID_WITHIN_S else 0.0


BOARD = LoadBoard()
