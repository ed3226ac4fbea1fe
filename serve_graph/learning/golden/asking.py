"""Ask one tier all golden tasks once, and grade what it says: in places that requests leave, under a day's budget."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from router_models.data.starter import Task, grade
from router_models.data.starter.task import UNGRADED
from router_models.types import Completion, Query
from router_models.types.chat_prompts import read_message
from serve_graph.config.learning import GoldenConfig
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError
from serve_graph.learning.golden.run_table import AnswerGiven
from serve_graph.learning.golden.task_set import TaskSet
from serve_graph.learning.judging.judge_calls import JudgeCalls, NotJudgedError
from serve_graph.learning.judging.judge_prompts import (
    DEFAULT_PROMPTS,
    POINTWISE_WORDS,
    conversation_text,
    why_not_judged,
)
from serve_graph.learning.judging.judge_questions import JudgeQuestions, UnparsableError

logger = logging.getLogger(__name__)
BUSY_TRIES = 20
"""How often a task is tried while requests keep its tier busy."""


@dataclass(slots=True)
class TierAnswered:
    """What came of asking: answers by task, and why there are none of the others. `greedy`: with `decoding`."""

    answers: dict[str, AnswerGiven] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    greedy: bool = True


class GoldenAsker:
    """Ask tiers golden tasks.

    Parameters
    ----------
    config : GoldenConfig
        Under which settings, how many at once.
    calls : JudgeCalls
        How tiers are called, and what for.
    judge : JudgeQuestions, optional
        Who grades what no program grades; None: nobody does.
    pause_s : float
        Seconds between two tries of a tier that is busy.
    """

    def __init__(
        self, config: GoldenConfig, calls: JudgeCalls, judge: JudgeQuestions | None = None, *, pause_s: float = 3.0
    ) -> None:
        self.config = config
        self.calls = calls
        self.judge = judge
        self.pause_s = pause_s
        self._refused: set[str] = set()

    async def ask(self, tier: str, tasks: TaskSet, beat: Callable[[], Awaitable[bool]]) -> TierAnswered | None:
        """Ask a tier everything; `beat` is called after every answer, and None returned where it says False."""
        found = TierAnswered()
        waiting = list(tasks.tasks.items())
        goes_on = True

        async def work() -> None:
            nonlocal goes_on
            while goes_on and waiting:
                name, task = waiting.pop(0)
                try:
                    await self._one(tier, name, task, tasks.quotes, found)
                    goes_on = goes_on and await beat()
                except BaseException:
                    goes_on = False  # the others end after the task they are at
                    raise

        ended = await asyncio.gather(*(work() for _ in range(self.config.concurrency)), return_exceptions=True)
        if (fault := next((one for one in ended if isinstance(one, BaseException)), None)) is not None:
            raise fault
        found.greedy = bool(self.config.decoding) and tier not in self._refused
        return found if goes_on else None

    async def _one(self, tier: str, name: str, task: Task, quotes: bool, found: TierAnswered) -> None:
        try:
            completion = await self._answer(tier, task)
        except NotJudgedError as error:
            found.failed[str(error)] += 1
            return
        except EngineError as error:
            found.failed["timeout" if isinstance(error, EngineTimeoutError) else "error"] += 1
            return
        answer = answer_given(completion, None if quotes else completion.text)
        answer["right"] = await self._right(task, completion)
        found.answers[name] = AnswerGiven(**answer)

    async def _answer(self, tier: str, task: Task) -> Completion:
        decoding = {} if tier in self._refused else self.config.decoding
        try:
            return await self._called(tier, _asked(task, decoding))
        except EngineRequestError as error:
            if not decoding:
                raise
            completion = await self._called(tier, _asked(task, {}))
            if any(name in f"{error.param} {error}" for name in decoding):  # what is refused otherwise is this request
                logger.warning(
                    "tier %r refuses %s: golden tasks are asked without (%s)", tier, sorted(decoding), error
                )
                self._refused.add(tier)
            return completion

    async def _called(self, tier: str, query: Query) -> Completion:
        for left in reversed(range(BUSY_TRIES)):
            try:
                return (await self.calls.make(tier, query, "answer"))[0]
            except NotJudgedError as error:
                if str(error) != "busy" or not left:
                    raise
            await asyncio.sleep(self.pause_s)
        raise AssertionError("the last try returns or raises")

    async def _right(self, task: Task, completion: Completion) -> bool | None:
        """Whether an answer is right, as a program or the judge says; None where neither does."""
        try:
            if task.grader != UNGRADED:
                return await asyncio.to_thread(grade, task, completion.text)
            if self.judge is None or why_not_judged(task.query, completion, self.judge.config.max_chars) is not None:
                return None
            config = self.judge.config
            template = config.prompt if config.mode == "pointwise" and config.prompt else DEFAULT_PROMPTS["pointwise"]
            texts = {"question": conversation_text(task.query), "answer": completion.text}
            word, _ = await self.judge.ask(template, POINTWISE_WORDS, **texts)
            return POINTWISE_WORDS[word]
        except (NotJudgedError, EngineError, UnparsableError):
            return None
        except Exception as error:  # noqa: BLE001 (a grader that cannot run here says nothing of the answer)
            logger.warning("an answer to golden task %s is not graded: %s", task.id, error)
            return None


def _asked(task: Task, decoding: dict[str, Any]) -> Query:
    """A task's request: `decoding` goes before its own settings."""
    return Query(tuple(map(read_message, task.chat)), {}, {**task.carried, **decoding, "messages": task.chat})


def answer_given(completion: Completion, text: str | None) -> dict[str, Any]:
    """What is kept of an API's reply. What it says includes the tools that it calls; their ids are made anew."""
    called = [(call.get("function") or {}) for call in completion.tool_calls]
    made = [(one.get("name"), one.get("arguments")) for one in called]
    said = json.dumps([completion.text, made], ensure_ascii=False, default=str)
    payload, usage = completion.payload, completion.usage
    answered = [attempt.deployment for attempt in completion.attempts if attempt.status == 200]
    return {
        "said": hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:32],
        "text": text,
        "tokens": usage.completion_tokens or None,
        "prompt_tokens": usage.prompt_tokens or None,
        "source": answered[-1] if answered else "",
        "model": _text(payload.get("model")),
        "fingerprint": _text(payload.get("system_fingerprint")),
    }


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
