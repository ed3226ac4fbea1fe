"""All that is known of a candidate, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from router_models.monitoring.canary.arms import arm_findings
from router_models.monitoring.canary.findings import CanaryFinding
from router_models.monitoring.canary.observations import ArmOutcome, PairedRequest
from router_models.monitoring.canary.pairs import pair_findings, quality_of
from router_models.monitoring.canary_limits import CanaryLimits

CanaryVerdict = Literal["promote", "roll_back", "go_on"]


@dataclass(frozen=True, slots=True)
class CanaryEvidence:
    """Every test of a candidate, each valid at every moment, and the verdict of all.

    Parameters
    ----------
    findings : tuple of CanaryFinding
        Every test, in a fixed order, whether or not it has reached its limit.
    pairs, undetermined, outcomes : int
        Requests that both versions decided and that count, those of them whose difference in quality is not known, and
        units that one version served.
    repeats : int
        Further requests that both decided, of groups of which the first counts.
    """

    findings: tuple[CanaryFinding, ...]
    pairs: int
    undetermined: int
    outcomes: int
    repeats: int = 0

    @classmethod
    def of(
        cls, pairs: Iterable[PairedRequest], outcomes: Iterable[ArmOutcome], limits: CanaryLimits
    ) -> CanaryEvidence:
        """Test everything that was observed, in its order of arrival.

        More observations never take a limit back that was reached.

        Parameters
        ----------
        pairs : iterable of PairedRequest
            Requests that both versions decided.
        outcomes : iterable of ArmOutcome
            Requests that one of them answered.
        limits : CanaryLimits
            What promotes the candidate, and what rolls it back.

        Returns
        -------
        CanaryEvidence
            Every finding, and what follows.

        Raises
        ------
        DataError
            For values that cannot be observed.
        """
        given, units = list(pairs), list(outcomes)
        paired = _one_of_each_group(given)
        quality = quality_of(paired)
        found = pair_findings(paired, quality, limits) + arm_findings(units, limits)
        return cls(tuple(found), len(paired), quality.undetermined, len(units), len(given) - len(paired))

    @property
    def verdict(self) -> CanaryVerdict:
        """`roll_back` where any test against the candidate has reached its limit; `promote` where all for it have."""
        if any(f.reached for f in self.findings if f.effect == "roll_back"):
            return "roll_back"
        blocked = any(f.reached for f in self.findings if f.effect == "block")
        proved = all(f.reached for f in self.findings if f.effect == "promote")
        return "promote" if proved and not blocked else "go_on"

    def to_json(self) -> dict[str, Any]:
        """As JSON: the verdict, the counts and every finding."""
        return {
            "verdict": self.verdict,
            "pairs": self.pairs,
            "undetermined": self.undetermined,
            "outcomes": self.outcomes,
            "repeats": self.repeats,
            "findings": [finding.to_json() for finding in self.findings],
        }


def _one_of_each_group(pairs: list[PairedRequest]) -> list[PairedRequest]:
    """The first of each group, whether or not it was graded, and all that stand by themselves, in their order."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        if pair.group is None or pair.group not in seen:
            kept.append(pair)
        if pair.group is not None:
            seen.add(pair.group)
    return kept
