"""The terminal of `decisions label`: kept answers in random order, blind to the tier, one key a label.

Shown are answers of which something was promised, of the random share of decisions whose labels count
(`feedback.label_share`). Every label is in the store before the next answer is shown: the next session goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from router_models.errors import by_number
from router_models.types import DecisionRecord
from serve_graph.cli.client.ask import api_client, ask
from serve_graph.cli.offline.label_terminal import KEYS_ARE, Keys, plain, show_text
from serve_graph.errors import ServeGraphError
from serve_graph.gateway.promise import OR_NO_WORSE
from serve_graph.learning.kept_tasks import replayed_task
from serve_graph.learning.labelled import drawn_order, is_promised, up_for_labelling
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore

T = TypeVar("T")
AskLast = Callable[[DecisionRecord], Awaitable[str]]
"""The last tier's answer to the same request."""
_LABELS = {"r": 1.0, "w": 0.0}


@dataclass(frozen=True, slots=True)
class ToLabel:
    """What a session shows.

    `queue`: the records, in a random order. `labelled`, `wrong`: labels that this person had given of them before.
    `passed`: kept answers that are not in the random share, or of which nothing was promised, by why.
    """

    queue: tuple[DecisionRecord, ...]
    labelled: int = 0
    wrong: int = 0
    passed: Counter[str] = field(default_factory=Counter)


async def answers_to_label(store: DecisionStore, share: float, labeller: str, version: str | None = None) -> ToLabel:
    """Find the kept answers that are up for labelling and have no label of this person.

    Raises ServeGraphError where no record holds prompt and answer.
    """
    passed: Counter[str] = Counter()
    found: list[DecisionRecord] = []
    async with aclosing(store.kept_prompts()) as records:
        async for record in records:
            if version is not None and record.version != version:
                continue
            if not record.evidence.get("answer"):
                passed["without its answer"] += 1
            elif not is_promised(record.evidence):
                passed["nothing was promised of it"] += 1
            elif not up_for_labelling(record.id, share):
                passed["not in the random share"] += 1
            else:
                found.append(record)
    if not found and set(passed) <= {"without its answer"}:
        raise ServeGraphError(
            "no record holds a prompt and its answer: set `records: {keep_prompts: true}` (and not `keep_answers: "
            "false`) and serve some traffic to `auto` first"
        )
    said = await FeedbackTable(store).labels_on([record.id for record in found])
    mine = {name: one for name, labels in said.items() for one in labels if one.labeller == labeller}
    queue = sorted((record for record in found if record.id not in mine), key=lambda record: drawn_order(record.id))
    return ToLabel(tuple(queue), len(mine), sum(one.value == 0 for one in mine.values()), passed)


class DecisionLabels:
    """One person's session over answers that are up for labelling.

    Parameters
    ----------
    table : FeedbackTable
        Where labels go, each at once.
    keys : Keys
        Where keys come from.
    labeller, source : str
        Who labels, and as what.
    ask_last : callable, optional
        Asks the last tier for its answer to a request whose answer is wrong, where wrong answers count only if that
        is right.
    """

    def __init__(
        self,
        table: FeedbackTable,
        keys: Keys,
        labeller: str,
        source: str = "human",
        *,
        ask_last: AskLast | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        display: Callable[[str], None] = show_text,
    ) -> None:
        self.table = table
        self.keys = keys
        self.labeller = labeller
        self.source = source
        self.ask_last = ask_last
        self.now = now
        self.display = display

    async def run(self, found: ToLabel) -> dict[str, Any]:
        """Show one answer after the other until none is left or `q`; returns what the session came to."""
        given: list[tuple[DecisionRecord, Feedback | None]] = []
        while len(given) < len(found.queue):
            record = found.queue[len(given)]
            done = found.labelled + sum(label is not None for _, label in given)
            self.display(_page(record, f"{done} labelled, {len(found.queue) - len(given)} to go"))
            key = self._key()
            if key == "q":
                break
            if key == "u":
                if not given:
                    self.display("nothing to undo")
                    continue
                _, label = given.pop()
                if label is not None:
                    await self.table.write([replace(label, value=None, last_tier_right=None, given_at=self._at())])
            elif key == "s":
                given.append((record, None))
            else:
                given.append((record, await self._label(record, _LABELS[key])))
        labels = [label for _, label in given if label is not None]
        wrong = [(record, label) for record, label in given if label is not None and label.value == 0]
        return {
            "labelled": found.labelled + len(labels),
            "wrong": found.wrong + len(wrong),
            "this_session": len(labels),
            "skipped": len(given) - len(labels),
            "left": len(found.queue) - len(given),
            "last_tier_unknown": sum(_of_harm(record) and label.last_tier_right is None for record, label in wrong),
        }

    async def _label(self, record: DecisionRecord, value: float) -> Feedback:
        last = await self._last_tier_right(record) if _of_harm(record) and value == 0 else None
        label = Feedback(
            record.id,
            "label",
            self.source,
            self._at(),
            value,
            last_tier_right=last,
            labeller=self.labeller,
            by_admin=True,
        )
        await self.table.write([label])
        return label

    async def _last_tier_right(self, record: DecisionRecord) -> bool | None:
        """AskLast about the last tier's answer; None where there is none, or it is skipped."""
        if self.ask_last is None:
            return None
        try:
            answer = await self.ask_last(record)
        except ServeGraphError as error:
            self.display(f"no other answer to compare with: {error}")
            return None
        self.display(_page(replace(record, evidence={"answer": answer}), "another answer to the same prompt"))
        key = self._key("rws")
        return None if key == "s" else key == "r"

    def _key(self, accepted: str = "rwsuq") -> str:
        while (key := self.keys.read().lower()) not in tuple(accepted):
            if not self.keys.patient:
                if key == "q":
                    return "s" if "q" not in accepted else key
                raise ServeGraphError(f"{key!r} is no key ({KEYS_ARE}); the labels before it are kept")
            self.display(f"{key!r} is no key: {KEYS_ARE}")
        return key

    def _at(self) -> str:
        return self.now().isoformat(timespec="milliseconds")


def _of_harm(record: DecisionRecord) -> bool:
    """Whether a wrong answer of this promise counts only where the last tier's is right."""
    return str(record.evidence.get("promised_of", "")).endswith(OR_NO_WORSE)


def _page(record: DecisionRecord, status: str) -> str:
    answer = str(record.evidence.get("answer") or "")
    lines = [
        "",
        "─" * 72,
        status,
        "",
        "PROMPT",
        plain(record.prompt or ""),
        "",
        "ANSWER",
        plain(answer) or "(empty)",
        "",
    ]
    return "\n".join([*lines, KEYS_ARE + "."])


def asks_graph(url: str, last: str) -> AskLast:
    """Ask a running graph for the last tier's answer, by name: the key of $SERVE_GRAPH_KEY needs the scope `force`."""

    async def answer(record: DecisionRecord) -> str:
        said: Counter[str] = Counter()
        task = replayed_task(record, said)
        if task is None:
            raise ServeGraphError("; ".join(said))
        async with api_client(url) as client:
            return (await ask(client, last, task)).answer

    return answer


def summary_lines(summary: dict[str, Any], passed: Counter[str]) -> Iterable[str]:
    """What a session came to, in lines."""
    yield (
        f"{summary['labelled']} labelled, {summary['wrong']} wrong; {summary['this_session']} in this session, "
        f"{summary['skipped']} skipped, {summary['left']} left"
    )
    if unknown := summary["last_tier_unknown"]:
        yield (
            f"{unknown} wrong {by_number(unknown, 'answer')} without the last tier's answer "
            f"{by_number(unknown, 'counts', 'count')} as no harm: --ask asks a running graph for it"
        )
    yield from (f"not shown: {n} {why}" for why, n in sorted(passed.items()))


def run_labelling(url: str, work: Callable[[DecisionStore], Awaitable[T]]) -> T:
    """Run work with a store, and close it."""

    async def run() -> T:
        store = DecisionStore(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
