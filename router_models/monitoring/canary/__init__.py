"""Compare a candidate version with the stable one while both serve: tests that may be looked at after every request.

`CanaryEvidence.of` takes what was observed, in order of arrival, and says `promote`, `roll_back` or `go_on`.
"""

from router_models.monitoring.canary.evidence import CanaryEvidence, CanaryVerdict
from router_models.monitoring.canary.findings import CanaryEffect, CanaryFinding
from router_models.monitoring.canary.observations import Arm, ArmOutcome, PairedRequest
from router_models.monitoring.canary_limits import CanaryLimits

__all__ = [
    "Arm",
    "ArmOutcome",
    "CanaryEffect",
    "CanaryEvidence",
    "CanaryFinding",
    "CanaryLimits",
    "CanaryVerdict",
    "PairedRequest",
]
