"""One row of outcomes a prompt, of all decisions that asked it, and with which probability the row is whole. Pure.

A row is whole where every tier answered and was graded. Which prompts have a whole row is mostly chosen: by the
version that answered, and by whoever labelled. It is drawn by chance where a hash of the decision's id said so; the
probability is known then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from router_models.types.label_sources import by_judge
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.learning.retraining.served_answers import Grader, KeptAnswer, ServedDecision
from serve_graph.records.kept_requests import BESIDE

_WORDS = ("human", "programmatic")


@dataclass(frozen=True, slots=True)
class ServedPrompt:
    """One prompt of the traffic, with one answer a tier.

    Parameters
    ----------
    first : ServedDecision
        Its first request that named no tier: what decides whether it is drawn.
    answers : mapping of str to KeptAnswer
        By tier.
    grades : mapping of str to float
        Of these answers, by one source.
    source : str
        Whose grades they are; empty where there are none.
    probability : float, optional
        With which a prompt that is answered like this one has such grades, in (0, 1]; None: somebody, or something
        other than chance, chose it.
    requests : int
        How often it was asked.
    """

    first: ServedDecision
    answers: Mapping[str, KeptAnswer] = field(default_factory=dict)
    grades: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    probability: float | None = None
    requests: int = 1

    def is_whole(self, tiers: Collection[str]) -> bool:
        """Whether all of these tiers answered and were graded."""
        return all(tier in self.answers and tier in self.grades for tier in tiers)

    def lacks(self, tiers: Sequence[str]) -> str | None:
        """What is missing for the row to be evidence of harm, which takes a last answer without a grade for right."""
        for tier in tiers:
            if tier not in self.answers:
                return f"{self.first.route}: no answer of {tier} was kept"
        for tier in tiers[:-1]:
            if tier not in self.grades:
                return f"{self.first.route}: nobody graded the answer of {tier}"
        return None


def served_prompts(
    decisions: Iterable[ServedDecision], tiers: Sequence[str], label_share: float, source: str | None = None
) -> list[ServedPrompt]:
    """Gather decisions by prompt, oldest first.

    The first decision's own answers and grades make the row where they make it whole, or fit to be evidence; else
    those of later requests with the same prompt, forced ones too, are taken to it, and the row is none of chance.

    Parameters
    ----------
    decisions : iterable of ServedDecision
        In any order.
    tiers : sequence of str
        The ladder.
    label_share : float
        The share of decisions that is up for labelling by people and programs.
    source : str, optional
        Only grades by this source count; None: people's before programs', and a judge's where there are no others.
    """
    ordered = sorted(decisions, key=lambda one: (one.task.prompt_id, one.record.created_at, one.record.id))
    found = []
    for _, group in groupby(ordered, key=lambda one: one.task.prompt_id):
        asked = list(group)
        first = next((one for one in asked if not one.is_forced), None)
        if first is None:
            continue
        own = _row(first, [first], tiers, label_share, source, len(asked))
        if own.lacks(tiers) is not None and len(asked) > 1:
            pooled = _row(first, asked, tiers, label_share, source, len(asked))
            own = own if pooled.lacks(tiers) is not None and len(own.grades) >= len(pooled.grades) else pooled
        found.append(own)
    return sorted(found, key=lambda one: (one.first.record.created_at, one.first.record.id))


def _row(
    first: ServedDecision,
    asked: Sequence[ServedDecision],
    tiers: Sequence[str],
    label_share: float,
    source: str | None,
    requests: int,
) -> ServedPrompt:
    answers: dict[str, KeptAnswer] = {}
    grades: dict[Grader, dict[str, float]] = {}
    for one in asked:
        own = {tier: answer for tier, answer in one.answers().items() if tier in tiers}
        said = {who: each for who, each in one.grades().items() if source is None or who[0] == source}
        for tier, answer in own.items():
            if tier not in answers:
                answers[tier] = answer
                for who, each in said.items():
                    if tier in each:
                        grades.setdefault(who, {})[tier] = each[tier]
    if not grades:
        return ServedPrompt(first, answers, requests=requests)
    who = _best(grades, tiers)
    chance = _probability(first, who, label_share) if len(asked) == 1 else None
    return ServedPrompt(first, answers, grades[who], who[0], chance, requests)


def _best(grades: Mapping[Grader, Mapping[str, float]], tiers: Sequence[str]) -> Grader:
    """People's and programs' before judges', of these those who graded every tier, then those who graded most."""

    def rank(who: Grader) -> tuple[bool, bool, int, int, Grader]:
        of, judged = grades[who], by_judge(who[0])
        known = _WORDS.index(who[0]) if who[0] in _WORDS else len(_WORDS)
        return judged, not all(tier in of for tier in tiers[:-1]), -len(of), known, who

    return min(grades, key=rank)


def _probability(first: ServedDecision, who: Grader, label_share: float) -> float | None:
    """With which probability a decision has grades by these; None where chance did not choose it."""
    source, way = who
    if way == "compared":  # only where two versions disagree, which is a choice of theirs
        return None
    said = [label for label in first.labels if label.source == source]
    if way == "program":  # it grades whatever there is: what counts is how the answers came to be there
        brought = first.answers().keys() - _tiers_asked(first)
        if not brought:
            return 1.0
        said = [one for one in first.labels if any(kept["tier"] in brought for kept in one.detail.get(BESIDE) or ())]
    rates = {label.probability or (None if by_judge(label.source) else label_share) for label in said}
    rate = rates.pop() if len(rates) == 1 else None
    return rate if rate is not None and up_for_labelling(first.record.id, rate) else None


def _tiers_asked(first: ServedDecision) -> set[str]:
    """The tiers that a request itself was answered by, shown or not."""
    kept = first.record.evidence.get(BESIDE) or ()
    return {first.record.tier, *(str(one["tier"]) for one in kept)}
