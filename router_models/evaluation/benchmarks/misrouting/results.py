"""What rewriting hard prompts did to a version."""

from __future__ import annotations

from dataclasses import dataclass, field

from router_models.metrics.intervals import Interval


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Hold what one way of rewriting hard prompts, or their answers, did; shares with 95 % intervals.

    Parameters
    ----------
    name, kind : str
        The perturbation; `kind` is "answer" for one of answers.
    not_covered : float
        The share of the rewritten prompts that the certificate does not cover.
    alone : float
        The share that the router alone, not asked about coverage, newly sends to the cheapest tier.
    routed : float
        The share that is sent there and covered, beside `Misrouting.routed` of the prompts as they were.
    moved : Interval
        The share that is newly sent there and covered.
    accepted : Interval, optional
        The share of which the cheapest tier's answer is newly accepted as well; None: not known, as its answer to the
        rewritten prompt may be another.
    rise : Interval
        By how much the share that is sent there and covered is larger than it was: those that are moved less those
        that were sent there, and are no longer.
    """

    name: str
    kind: str
    not_covered: float
    alone: float
    routed: float
    moved: Interval
    accepted: Interval | None
    rise: Interval = field(default_factory=lambda: Interval(0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Misrouting:
    """Hold what all perturbations did to `prompts` hard prompts of one version.

    Parameters
    ----------
    name : str
        What was attacked.
    prompts : int
        Prompts that the cheapest tier answers wrong.
    epsilon : float
        The largest share that may move.
    routed, accepted : float
        The shares that were sent to the cheapest tier, and accepted there, before anything was rewritten.
    any_moved : float
        The share that at least one of the perturbations moves: of an attacker who knows which.
    rows : tuple of Rewritten
        One for each perturbation.
    ordinary : float, optional
        The share of CERT's prompts, as they were asked, that are not covered for their parts; None: not counted.
    """

    name: str
    prompts: int
    epsilon: float
    routed: float
    accepted: float | None
    any_moved: float
    rows: tuple[Rewritten, ...]
    ordinary: float | None = None

    @property
    def most_risen(self) -> Rewritten:
        """Return the perturbation under which most hard prompts are sent down, and covered."""
        return max((row for row in self.rows if row.kind != "answer"), key=lambda row: row.routed)

    @property
    def beyond(self) -> tuple[Rewritten, ...]:
        """Return the perturbations that have more than ε of the hard prompts moved, or accepted."""
        return tuple(
            row
            for row in self.rows
            if row.moved.value > self.epsilon or (row.accepted is not None and row.accepted.value > self.epsilon)
        )
