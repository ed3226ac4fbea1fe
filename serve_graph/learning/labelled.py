"""Which labels of served answers count for a promise, and what they show. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from router_models.monitoring.promise_watch import LabelMark, WatchedPromise
from serve_graph.records.feedback import Feedback

Labelled = tuple[Feedback, Mapping[str, Any]]
"""A label, and the evidence of its decision."""
BY_PROGRAM = "program"
"""The mode of labels that a program gave, because the request asked a known task."""
TIE_MEANS = "tie_means"
"""In the detail of a judge's label whose orders disagree: in how many the shown answer was `wrong`, did `harm`."""
NOT_WATCHED = ("shown", "served on overload", "accepted by their first tokens")


def up_for_labelling(decision: str, share: float) -> bool:
    """Whether a decision is in the random share that is labelled: by a hash of its id, so for everybody alike."""
    drawn = int.from_bytes(hashlib.sha256(f"label {decision}".encode("utf-8", "replace")).digest()[:8], "big")
    return drawn < share * 2**64


def drawn_order(decision: str) -> bytes:
    """Where a decision stands in the random order in which answers are labelled: the same for everybody."""
    return hashlib.sha256(f"order {decision}".encode("utf-8", "replace")).digest()


def is_promised(evidence: Mapping[str, Any]) -> bool:
    """Whether something was promised of a decision's answer by the version's own certificate.

    Answers that were shown by their first tokens or on overload have certificates of their own, and are not watched.
    """
    of = str(evidence.get("promised_of", ""))
    return evidence.get("promised") is not None and not any(words in of for words in NOT_WATCHED)


def marks_of(
    labels: Iterable[Labelled], promise: WatchedPromise, sources: Collection[str], share: float
) -> list[LabelMark]:
    """What the labels that count show, one mark a decision, in the order of their first label.

    Counted are labels of promised answers that are up for labelling, by the sources that count (of a certificate of a
    judge: its own alone), but for those that were given because a request asked a known task: traffic is not made of
    such alone. Several labellers of one decision: the majority; a draw counts as right, since nothing then
    says that the risk happened. An answer of the last tier that nobody labelled counts as wrong, for the same reason.
    A judge's tie counts for what it said in both orders, on average; beside others' labels it counts for nothing.
    """
    votes: dict[str, list[Feedback]] = {}
    slices: dict[str, str | None] = {}
    for label, evidence in labels:
        counts = label.source == promise.judge if promise.judge else label.source in sources
        counts = counts and label.detail.get("mode") != BY_PROGRAM
        if counts and label.value is not None and is_promised(evidence) and up_for_labelling(label.decision, share):
            votes.setdefault(label.decision, []).append(label)
            slices[label.decision] = evidence.get("slice")
    return [_mark(said, promise, slices[decision]) for decision, said in votes.items()]


def _mark(said: list[Feedback], promise: WatchedPromise, slice_name: str | None) -> LabelMark:
    ties = [label for label in said if label.detail.get(TIE_MEANS)]
    if ties and len(ties) == len(said):
        wrong_share, harm = (_mean(label.detail[TIE_MEANS][name] for label in ties) for name in ("wrong", "harm"))
        return LabelMark(harm if promise.harm else wrong_share, wrong_share, slice_name)
    said = [label for label in said if not label.detail.get(TIE_MEANS)]
    wrong = sum(1 if label.value == 0 else -1 for label in said) > 0
    last = [label.last_tier_right for label in said if label.last_tier_right is not None]
    return promise.mark(not wrong, None if not last else sum(1 if right else -1 for right in last) > 0, slice_name)


def _mean(values: Iterable[Any]) -> float:
    found = [min(max(float(value), 0.0), 1.0) for value in values]
    return sum(found) / len(found)
