"""One person's session with a file of labels: which answer is asked next, and when it is enough. Pure.

Asked first is what others have labelled and this person has not, and what this person skipped in an earlier session;
then the rows that the test under way needs, in their order. A session is over when everything is proved, or no row is
left; with `adjudicating` it shows the disputed answers alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from router_models.risk_control.streaming import NestedStream, follow_stream
from router_models.training.labelling.plan import LabelTask, Question
from router_models.training.labelling.records import LabelRecord, without_last
from router_models.training.labelling.votes import Item, Vote, agreements, marks_by, votes_of


@dataclass(frozen=True, slots=True)
class LabelSession:
    """The labels so far, and whose turn it is.

    Parameters
    ----------
    task : LabelTask
        What is asked.
    records : tuple of LabelRecord
        Every label that stands.
    labeller : str
        Who labels now.
    begun_with : int
        How many of the records were there when the session began.
    adjudicating : bool
        Whether disagreements alone are shown, to be settled.
    to_the_end : bool
        Whether to go on, once something is proved, where the next threshold is not likely to be.
    """

    task: LabelTask
    records: tuple[LabelRecord, ...]
    labeller: str
    begun_with: int
    adjudicating: bool = False
    to_the_end: bool = False

    @property
    def votes(self) -> dict[Item, Vote]:
        """What was said of every answer."""
        return votes_of(self.records)

    @property
    def stream(self) -> NestedStream:
        """The tests, as far as the labels go."""
        plan, marks = self.task.plan, marks_by(self.task, self.votes)
        return follow_stream(plan.thresholds, self.task.scores, marks, epsilon=plan.epsilon, level=plan.level)

    def next_item(self) -> tuple[Question, str] | None:
        """The next answer to label: its row and its tier; None where nothing is left to ask."""
        votes, mine = self.votes, self._mine()
        if self.adjudicating:
            disputed = (item for item in self._items() if item in votes and votes[item].disputed)
            return self._first(disputed, self._skipped_now())
        stream = self.stream
        open_ = not stream.steps[-1].proved and (self.to_the_end or stream.proved is None or self._likely(stream))
        skipped = self._skipped() - self._skipped_now()
        waiting = (
            item
            for item in self._items()
            if item not in mine and ((item in votes and votes[item].said) or (open_ and item in skipped))
        )
        found = self._first(waiting, self._skipped_now())
        if found is not None or stream.next_row is None or not open_:
            return found
        row = self.task.questions[stream.next_row]
        return next(
            ((row, tier) for tier in row.answers if (row.key, tier) not in {*mine, *self._skipped_now()}), None
        )

    def label(self, right: bool | None, at: str) -> LabelSession:
        """The session with one more label on the answer that is asked (None: skipped)."""
        asked = self.next_item()
        assert asked is not None
        record = LabelRecord(asked[0].key, asked[1], self.labeller, right, self.adjudicating, at)
        return replace(self, records=(*self.records, record))

    def undo(self) -> LabelSession | None:
        """The session without this person's last label; None where there is none."""
        left = tuple(without_last(self.records, self.labeller))
        if len(left) == len(self.records):
            return None
        return replace(self, records=left, begun_with=min(self.begun_with, len(left)))

    def summary(self) -> dict[str, Any]:
        """What the labels come to, as JSON-able data."""
        stream, votes, plan = self.stream, self.votes, self.task.plan
        marks = marks_by(self.task, votes)
        asked = [i for i, row in enumerate(self.task.questions) if marks[i] == marks[i] and not row.alike]
        at, proved = stream.steps[-1], stream.proved
        more, left = self._foretold(stream)
        return {
            "promise": plan.promise,
            "epsilon": plan.epsilon,
            "level": plan.level,
            "rows": len(self.task.questions),
            "labelled": len(asked),
            "against": int(sum(marks[i] for i in asked)),
            "skipped": sum(not vote.said and vote.right is None for vote in votes.values()),
            "disputed": sum(vote.disputed for vote in votes.values()),
            "proved": None if proved is None else {
                "threshold": proved.threshold,
                "share": self.task.share(proved.threshold),
                "labels": proved.state.n,
                "against": proved.state.errors,
            },
            "complete": at.proved and len(stream.steps) == len(plan.thresholds),
            "under_test": None if at.proved else {
                "threshold": at.threshold,
                "share": self.task.share(at.threshold),
                "labels": at.state.n,
                "against": at.state.errors,
                "e_value": at.state.e_value,
                "more": more,
                "left": left,
            },
            "labellers": sorted({record.labeller for record in self.records}),
            "agreement": [
                {"between": list(pair.labellers), "n": pair.n, "agree": pair.agree, "kappa": pair.kappa}
                for pair in agreements(votes)
            ],
        }  # fmt: skip

    def _foretold(self, stream: NestedStream) -> tuple[int | None, int]:
        """How many more labels the test under way is likely to need, and how many rows are left for it."""
        at, plan = stream.steps[-1], self.task.plan
        left = int((self.task.scores >= at.threshold).sum()) - at.state.n
        return stream.foretold(plan.level, plan.tune_risk), left

    def _likely(self, stream: NestedStream) -> bool:
        more, left = self._foretold(stream)
        return more is not None and more <= left

    def _items(self) -> Iterator[Item]:
        return ((row.key, tier) for row in self.task.questions if not row.alike for tier in row.answers)

    def _first(self, items: Iterator[Item], without: set[Item]) -> tuple[Question, str] | None:
        item = next((one for one in items if one not in without), None)
        if item is None:
            return None
        return next(row for row in self.task.questions if row.key == item[0]), item[1]

    def _mine(self) -> set[Item]:
        """What this person has labelled, and not skipped since."""
        return {item for item, vote in votes_of(self.records).items() if self.labeller in vote.said}

    def _skipped(self) -> set[Item]:
        return {(r.row, r.tier) for r in self.records if r.labeller == self.labeller and r.right is None}

    def _skipped_now(self) -> set[Item]:
        mine = self.records[self.begun_with :]
        return {(r.row, r.tier) for r in mine if r.labeller == self.labeller and r.right is None}
