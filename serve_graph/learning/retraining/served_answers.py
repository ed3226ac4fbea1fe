"""What was kept of one decision: the answers that tiers made for it, shown or not, and their grades. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from router_models.data.starter import Task
from router_models.types import DECIDED_BY_NO_VERSION, Action, DecisionRecord, Usage
from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.records.comparisons import Comparison
from serve_graph.records.feedback import Feedback
from serve_graph.records.kept_requests import BESIDE

Way = Literal["label", "compared", "program"]
"""How a grade came about: a label of a decision, a comparison during a rollout, a program that was run now."""
Grader = tuple[str, Way]
"""Whose word a grade is, as labels name sources, and how it came about."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """One tier's answer to a request, as it was kept."""

    tier: str
    text: str
    finish_reason: str
    usage: Usage
    latency_s: float
    logprobs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedDecision:
    """A decision whose request was kept whole, with all that was said of its answers.

    Parameters
    ----------
    record : DecisionRecord
        The decision.
    task : Task
        Its request; with a grader where a program can grade answers to it.
    last_tier : str
        The last tier of the ladder.
    labels, comparisons : tuple
        The labels of it that count, and its comparisons during rollouts.
    programmed : mapping of str to float
        Grades by a program that was run on its answers, by tier.
    """

    record: DecisionRecord
    task: Task
    last_tier: str
    labels: tuple[Feedback, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    programmed: Mapping[str, float] = field(default_factory=dict)

    @property
    def route(self) -> str:
        """How it was answered, and by which tier."""
        return f"{self.record.outcome}, {self.record.tier}"

    @property
    def is_forced(self) -> bool:
        """Whether no version decided it: its caller named the tier, or two tiers answered."""
        return self.record.outcome in DECIDED_BY_NO_VERSION

    def answers(self) -> dict[str, KeptAnswer]:
        """The answers to it that were kept whole, by tier."""
        told = [*(one.detail for one in self.labels), *(one.detail for one in self.comparisons)]
        beside = [self.record.evidence, *told]
        made = {str(one["tier"]): _beside(one) for found in beside for one in found.get(BESIDE) or ()}
        lines = {line.tier: line for line in self.record.calls}
        text, line = self.record.evidence.get("answer"), lines.get(self.record.tier)
        if isinstance(text, str) and line is not None and self.record.outcome != Action.ABSTAINED:
            signals = dict(self.record.evidence.get("signals") or {})
            finish = str(signals.get("finish_reason") or "stop")
            made[line.tier] = KeptAnswer(line.tier, text, finish, line.usage, line.latency_s, _logprobs(signals))
        return made

    def grades(self) -> dict[Grader, dict[str, float]]:
        """What is said of its answers, by who says so: 1 or 0 for each tier.

        Several labels of one source: the majority; a draw says nothing. A judge's tie between a cheap answer and the
        last tier's counts against the cheap one, and says nothing of the other. One between two versions' answers says
        nothing.
        """
        votes: dict[Grader, Counter[str]] = {}
        for label in self.labels:
            if label.kind != "label" or label.value is None:
                continue
            for tier, right in self._said(label).items():
                votes.setdefault((label.source, "label"), Counter())[tier] += 1 if right else -1
        for one in self.comparisons:
            if one.is_tie:
                continue
            for tier, grade in ((one.stable_tier, one.stable_right), (one.candidate_tier, one.candidate_right)):
                if one.grader is not None and grade is not None:
                    votes.setdefault((one.grader, "compared"), Counter())[tier] += 1 if grade else -1
        found = {who: {tier: float(n > 0) for tier, n in each.items() if n} for who, each in votes.items()}
        if self.programmed:
            found["programmatic", "program"] = dict(self.programmed)
        return {who: grades for who, grades in found.items() if grades}

    def _said(self, label: Feedback) -> dict[str, bool]:
        """Which tiers' answers a label says are right, and which not."""
        shown, last = self.record.tier, self.last_tier
        tried = next((str(one["tier"]) for one in self.record.evidence.get(BESIDE) or ()), None)
        if label.detail.get("verdict") == "tie":
            cheap = shown if shown != last else tried
            return {} if cheap is None else {cheap: False}
        said = {shown: bool(label.value)}
        if shown != last and label.last_tier_right is not None:
            said[last] = label.last_tier_right
        if shown == last and tried is not None and label.detail.get("cheap_right") is not None:
            said[tried] = bool(label.detail["cheap_right"])
        return said


def _beside(kept: Mapping[str, Any]) -> KeptAnswer:
    sent, made, cached = kept["usage"]
    usage = Usage(int(sent), int(made), int(cached))
    finish, seconds = str(kept.get("finish_reason") or "stop"), float(kept.get("latency_s") or 0.0)
    text = str(kept.get("answer") or "")
    return KeptAnswer(str(kept["tier"]), text, finish, usage, seconds, _logprobs(kept.get("signals") or {}))


def _logprobs(signals: Mapping[str, Any]) -> dict[str, float]:
    """The summary of a completion's token logprobs, of the signals that were kept."""
    return {name: float(signals[name]) for name in LOGPROB_NAMES if isinstance(signals.get(name), int | float)}
