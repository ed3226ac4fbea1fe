"""`label` on answers that were drawn from a batch: one key a label, each on the disk before the next is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_models.errors import ArtifactError, by_number
from router_models.training.labelling.records import (
    LabelRecord,
    append_line,
    has_labels,
    records_of,
    whole_lines,
    without_last,
)
from router_models.training.labelling.votes import Vote, agreements, votes_of
from serve_graph.cli.batch.quality.sample import DrawnAnswer, DrawnSample
from serve_graph.cli.offline.label_terminal import KEYS_ARE, Keys, plain, show_text
from serve_graph.errors import ServeGraphError

SHOWN, LAST = "answer", "last tier"
"""What a label is about: the answer that was drawn, or the last tier's to the same request."""
AskLastTier = Callable[[DrawnAnswer], str]
_LABEL = {"r": True, "w": False, "s": None}
OF = "labels_of"
"""What the first line of a file of such labels says whose they are."""


def read_labels(path: Path) -> tuple[LabelRecord, ...]:
    """The labels that stand, in the order in which they were given; none where there is no file.

    Raises ServeGraphError for a file that is none of a batch's labels.
    """
    if not has_labels(path):
        return ()
    first, *lines = whole_lines(path) or [(1, "")]
    try:
        head = json.loads(first[1])
        if not isinstance(head, dict) or OF not in head:
            raise ValueError("its first line names no sample of a batch")
        return records_of(path, lines)
    except (ValueError, ArtifactError) as error:
        raise ServeGraphError(f"{path} holds no labels of a batch's answers: {error}") from None


def begin_labels_of(path: Path, sample: Path, label_source: str) -> None:
    """Write the first line of a new file of labels."""
    path.write_text(json.dumps({OF: sample.name, "label_source": label_source}) + "\n", encoding="utf-8")


@dataclass
class AuditSession:
    """One person's session over a sample. `ask_last`: the last tier's answer, asked for after a wrong one."""

    sample: DrawnSample
    records: tuple[LabelRecord, ...]
    labeller: str
    ask_last: AskLastTier | None = None
    adjudicating: bool = False
    display: Callable[[str], None] = show_text

    def run(self, path: Path, keys: Keys, now: Callable[[], str]) -> dict[str, Any]:
        """Show one answer after the other until none is left or `q`; returns what the labels come to."""
        passed: set[str] = set()
        while (drawn := self._next(passed)) is not None:
            left = sum(1 for _ in self._waiting(passed))
            self.display(_page(drawn, drawn.answer, f"{self._labelled()} labelled, {left} to go"))
            key = self._key(keys, path)
            if key == "q":
                break
            if key == "u":
                self._undo(path, passed)
                continue
            if key == "s":
                passed.add(drawn.key)
            self._note(path, drawn.key, SHOWN, _LABEL[key], now())
            if key == "w" and self.ask_last is not None:
                self._last_tier(path, drawn, keys, now)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """What was said so far, by whoever said it."""
        votes = {item: vote for item, vote in votes_of(self.records).items() if item[1] == SHOWN}
        return {
            "drawn": len(self.sample.answers),
            "labelled": sum(vote.right is not None for vote in votes.values()),
            "wrong": sum(vote.right is False for vote in votes.values()),
            "skipped": sum(not vote.said and vote.right is None for vote in votes.values()),
            "disputed": sum(vote.disputed for vote in votes.values()),
            "left": len({one.key for one in self.sample.answers} - {item[0] for item in votes}),
            "agreement": [
                {"between": list(pair.labellers), "n": pair.n, "agree": pair.agree, "kappa": pair.kappa}
                for pair in agreements(votes)
            ],
        }

    def _next(self, passed: set[str]) -> DrawnAnswer | None:
        return next(self._waiting(passed), None)

    def _waiting(self, passed: set[str]) -> Iterator[DrawnAnswer]:
        """What this person has not labelled, in the order of the draw; with `adjudicating` what is disputed."""
        votes, shown = votes_of(self.records), set(passed)
        for one in self.sample.answers:
            if one.key in shown:
                continue
            vote = votes.get((one.key, SHOWN))
            if (vote is not None and vote.disputed) if self.adjudicating else self._is_open(vote):
                shown.add(one.key)  # equal rows have one answer
                yield one

    def _is_open(self, vote: Vote | None) -> bool:
        return vote is None or self.labeller not in vote.said

    def _labelled(self) -> int:
        votes = votes_of(self.records).items()
        return sum(item[1] == SHOWN and self.labeller in vote.said for item, vote in votes)

    def _last_tier(self, path: Path, drawn: DrawnAnswer, keys: Keys, now: Callable[[], str]) -> None:
        assert self.ask_last is not None
        try:
            answer = self.ask_last(drawn)
        except ServeGraphError as error:
            self.display(f"no other answer to compare with: {error}")
            return
        self.display(_page(drawn, answer, "another answer to the same prompt"))
        key = self._key(keys, path, "rwsq")
        if key in ("r", "w"):
            self._note(path, drawn.key, LAST, _LABEL[key], now())

    def _note(self, path: Path, row: str, what: str, right: bool | None, at: str) -> None:
        record = LabelRecord(row, what, self.labeller, right, self.adjudicating, at)
        append_line(path, record.to_json())
        self.records = (*self.records, record)

    def _undo(self, path: Path, passed: set[str]) -> None:
        """Take back this person's last word on an answer, and what was said of the last tier's with it."""
        while True:
            left = tuple(without_last(self.records, self.labeller))
            if len(left) == len(self.records):
                self.display("nothing to undo")
                return
            gone = next(one for one in reversed(self.records) if one.labeller == self.labeller)
            append_line(path, {"undo": self.labeller})
            self.records = left
            passed.discard(gone.row)
            if gone.tier == SHOWN:
                return

    def _key(self, keys: Keys, path: Path, accepted: str = "rwsuq") -> str:
        while (key := keys.read().lower()) not in tuple(accepted):
            if not keys.patient:
                raise ServeGraphError(f"{key!r} is no key ({KEYS_ARE}); the labels before it are kept in {path}")
            self.display(f"{key!r} is no key: {KEYS_ARE}")
        return key


def _page(drawn: DrawnAnswer, answer: str, status: str) -> str:
    lines = ["", "─" * 72, status, "", "PROMPT", plain(drawn.prompt), "", "ANSWER", plain(answer) or "(empty)"]
    return "\n".join([*lines, "", KEYS_ARE + "."])


def audit_lines(told: Mapping[str, Any], sample: Path) -> Iterator[str]:
    """What a session came to, in lines."""
    yield (
        f"{told['labelled']} of {told['drawn']} {by_number(told['drawn'], 'answer')} labelled, "
        f"{told['wrong']} wrong; {told['skipped']} skipped, "
        f"{told['disputed']} disputed, {told['left']} left"
    )
    for pair in told["agreement"]:
        kappa = "not defined (both always say the same)" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        first, second = pair["between"]
        yield f"{first} and {second} agree on {pair['agree']:.0%} of {pair['n']} answers, Cohen's kappa {kappa}"
    yield f"what that says of the batch: serve-graph batch audit {sample}"
