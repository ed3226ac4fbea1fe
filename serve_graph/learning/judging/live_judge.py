"""A judge of live answers: a sample of what was served is graded by a model, off the path of requests.

A request only hands over what it was answered with (`LiveJudge.offer`, which waits for nothing); a few workers ask
the judge later. What does not fit (queue, the tier's own load, the day's budget) is shed and counted. The verdict is
a label of the judge's own, never one of people's (docs/decisions/serving/0041).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.data.starter import Task
from router_models.pricing.prices import plain_decimal
from router_models.types import Completion, Query
from serve_graph.config.judge import JudgeConfig
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError, SaturatedError
from serve_graph.learning.held import HeldRoom, held_chars
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeCalls, JudgeTiers, NotJudgedError
from serve_graph.learning.judging.judge_metrics import JudgeMetrics
from serve_graph.learning.judging.judge_prompts import (
    DEFAULT_PROMPTS,
    POINTWISE_WORDS,
    conversation_text,
    fresh_nonce,
    why_not_judged,
)
from serve_graph.learning.judging.judge_questions import JudgeQuestions, UnparsableError
from serve_graph.learning.judging.task_graders import PROGRAM, TaskGraders, graded_by
from serve_graph.learning.labelled import BY_PROGRAM, TIE_MEANS, up_for_labelling
from serve_graph.records.feedback import Feedback
from serve_graph.records.kept_requests import BESIDE, beside_answer

logger = logging.getLogger(__name__)
AFTER_S = 1.0
"""Seconds between a request's end and its judging: its reply has left by then, and its record is on its way."""


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """A request that was answered. `route`: its outcome. `tried`: a cheap answer that was rejected before, whole."""

    decision: str
    route: str
    tier: str
    last_tier: str
    query: Query
    shown: Completion
    tried: Completion | None = None


@dataclass(slots=True)
class Judgement:
    """What came of judging one answer. `right`: of the shown one; `tie`: the two orders disagreed. `last`: the
    last tier's answer, where it was asked for this. `tie_means`: of a tie the shares of the orders in which the shown
    answer was wrong, and did harm. `task`: by which a program graded them, where no judge was asked.
    """

    mode: str
    right: bool = True
    tie: bool = False
    tie_means: tuple[float, float] | None = None
    last_tier_right: bool | None = None
    cheap_right: bool | None = None
    cost_usd: Decimal = field(default_factory=Decimal)
    last: Completion | None = None
    task: Task | None = None

    @property
    def verdict(self) -> str:
        return "tie" if self.tie else "right" if self.right else "wrong"


class LiveJudge:
    """Draw served answers, have them judged in the background, and write the labels.

    Parameters
    ----------
    config : JudgeConfig
        Which share, how, by whom and for how much.
    source : str
        The source of its labels: `judge:TIER/MODEL`.
    tiers : JudgeTiers
        Whom to ask.
    write : callable
        Keeps a label, so that it survives this process: the spool's.
    budget : JudgeBudget
        The day's money, shared by replicas.
    keep_answer : callable, optional
        Prepares the text of the last tier's answer, where it was asked for one, to be kept with the label; None: it
        is not kept.
    programs : TaskGraders, optional
        The tasks that programs grade, instead of the judge.
    after_s : float
        Seconds between a request's end and its judging.
    """

    def __init__(
        self,
        config: JudgeConfig,
        source: str,
        tiers: JudgeTiers,
        write: Callable[[Feedback], None],
        budget: JudgeBudget,
        *,
        after_s: float = AFTER_S,
        keep_answer: Callable[[str], str | None] | None = None,
        programs: TaskGraders | None = None,
        nonce: Callable[..., str] = fresh_nonce,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.source = source
        self.write = write
        self.keep_answer = keep_answer
        self.programs = programs
        self.after_s = after_s
        self.clock = clock
        self.now = now
        self.metrics = JudgeMetrics()
        self.calls = JudgeCalls(tiers, budget, self.metrics, config.concurrency, config.timeout_s)
        self.questions = JudgeQuestions(config, self.calls, nonce)
        self.template = config.prompt or DEFAULT_PROMPTS[config.mode]
        self._queue: asyncio.Queue[tuple[float, int, FinishedAnswer]] = asyncio.Queue(config.max_queued)
        self._room = HeldRoom()

    def draws(self, decision: str, route: str) -> bool:
        """Whether a decision is in the sample: by the hash that people's labels are drawn by."""
        return up_for_labelling(decision, self.config.rate_of(route))

    def offer(self, answer: FinishedAnswer) -> None:
        """Have an answer that was drawn judged later, where there is room. Waits for nothing, and never raises."""
        reason = why_not_judged(answer.query, answer.shown, self.config.max_chars)
        chars = 0
        if reason is None:
            reason = "queue" if self._queue.full() else None
        if reason is None:
            chars = held_chars(answer.query, answer.shown, answer.tried)
            reason = None if self._room.take(chars) else "queue"
        if reason is not None:
            self.metrics.shed[reason] += 1
            return
        self._queue.put_nowait((self.clock() + self.after_s, chars, answer))
        self.metrics.waiting = self._queue.qsize()

    async def run(self) -> None:
        """Judge what was offered, for ever. Cancelled, it ends the calls that are under way and forgets the rest."""
        await asyncio.gather(*(self._work() for _ in range(self.config.concurrency)))

    async def _work(self) -> None:
        while True:
            due, chars, answer = await self._queue.get()
            self.metrics.waiting = self._queue.qsize()
            await asyncio.sleep(max(0.0, due - self.clock()))
            self._room.give_back(chars)
            await self.judge(answer)

    async def judge(self, answer: FinishedAnswer) -> None:
        """Judge one answer and write its label; whatever goes wrong is counted."""
        try:
            self.write(self._label(answer, await self._judged(answer)))
        except NotJudgedError as shed:
            self.metrics.shed[str(shed)] += 1
        except SaturatedError:
            self.metrics.shed["busy"] += 1
        except UnparsableError:
            self.metrics.failed["unparsable"] += 1
        except EngineTimeoutError:
            self.metrics.failed["timeout"] += 1
        except EngineError as error:
            self.metrics.failed["refused" if isinstance(error, EngineRequestError) else "tier"] += 1
            logger.warning("%s was not judged: %s", answer.decision, error.recordable)
        except Exception as error:  # noqa: BLE001 (a judge that fails must not end those that work)
            self.metrics.failed["error"] += 1
            logger.error("%s was not judged: %s", answer.decision, type(error).__name__)

    def _label(self, answer: FinishedAnswer, judgement: Judgement) -> Feedback:
        self.metrics.verdicts[(answer.route, judgement.verdict)] += 1
        at = self.now().isoformat(timespec="milliseconds")
        detail: dict[str, Any] = {
            "mode": judgement.mode,
            "route": answer.route,
            "verdict": judgement.verdict,
            "cost_usd": plain_decimal(judgement.cost_usd),
        }
        if judgement.cheap_right is not None:
            detail["cheap_right"] = judgement.cheap_right
        if judgement.tie_means is not None:
            detail[TIE_MEANS] = dict(zip(("wrong", "harm"), judgement.tie_means, strict=True))
        if judgement.last is not None and self.keep_answer is not None:
            detail[BESIDE] = [beside_answer(answer.last_tier, judgement.last, self.keep_answer)]
        source = self.source if judgement.task is None else PROGRAM
        if judgement.task is not None:
            detail |= graded_by(judgement.task)
        return Feedback(
            answer.decision,
            "label",
            source,
            at,
            float(judgement.right),
            last_tier_right=judgement.last_tier_right,
            labeller=_voice(source),
            by_admin=True,
            first_at=at,
            probability=self.config.rate_of(answer.route),
            detail=detail,
        )

    async def _graded(self, answer: FinishedAnswer, programs: TaskGraders, task: Task) -> Judgement:
        """By program: the shown answer, a rejected one, and where pairs are judged the last tier's."""
        judgement = Judgement(BY_PROGRAM, task=task)
        judgement.right = await programs.is_right(task, answer.shown)
        if answer.tier == answer.last_tier:
            judgement.last_tier_right = judgement.right
        elif self.config.mode == "pairwise":
            last, judgement.cost_usd = await self.calls.make(answer.last_tier, answer.query, "answer")
            if last.tool_calls:
                raise NotJudgedError("tool calls")
            judgement.last, judgement.last_tier_right = last, await programs.is_right(task, last)
        if answer.tried is not None:
            judgement.cheap_right = await programs.is_right(task, answer.tried)
        return judgement

    async def _judged(self, answer: FinishedAnswer) -> Judgement:
        if self.programs is not None and (task := self.programs.task_for(answer.query)) is not None:
            return await self._graded(answer, self.programs, task)
        question = conversation_text(answer.query)
        if len(question) + len(answer.shown.text) > self.config.max_chars:
            raise NotJudgedError("too long")
        if self.config.mode == "pairwise":
            if answer.tier != answer.last_tier:
                judgement = Judgement("pairwise")
                last, judgement.cost_usd = await self.calls.make(answer.last_tier, answer.query, "answer")
                if last.tool_calls:
                    raise NotJudgedError("tool calls")
                judgement.last = last
                return await self._compared(question, answer.shown.text, last.text, judgement, shown_is_cheap=True)
            if answer.tried is not None:
                cheap, shown = answer.tried.text, answer.shown.text
                return await self._compared(question, cheap, shown, Judgement("pairwise"), shown_is_cheap=False)
        judgement = Judgement("pointwise")
        template = self.template if self.config.mode == "pointwise" else DEFAULT_PROMPTS["pointwise"]
        texts = {"question": question, "answer": answer.shown.text}
        word, judgement.cost_usd = await self.questions.ask(template, POINTWISE_WORDS, **texts)
        judgement.right = POINTWISE_WORDS[word]
        if answer.tier == answer.last_tier:
            judgement.last_tier_right = judgement.right
        return judgement

    async def _compared(
        self, question: str, cheap: str, last: str, judgement: Judgement, *, shown_is_cheap: bool
    ) -> Judgement:
        """A cheap answer beside the last tier's, in both orders."""
        verdict = await self.questions.compare(self.template, question, cheap, last)
        judgement.cost_usd += verdict.usd
        cheap_right, last_right = verdict.first, verdict.second
        if cheap_right is None or last_right is None:
            judgement.tie = True
            assert verdict.means is not None
            assert verdict.second_alone is not None
            wrong = 1 - verdict.means[0 if shown_is_cheap else 1]
            judgement.tie_means = wrong, verdict.second_alone if shown_is_cheap else 0.0
            return judgement
        judgement.right = cheap_right if shown_is_cheap else last_right
        judgement.last_tier_right, judgement.cheap_right = last_right, cheap_right
        return judgement


def _voice(source: str) -> str:
    """The labeller of a judge's labels, in 64 characters: nobody else's words take their place."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    return source if len(source) <= 64 else f"{source[:55]}-{digest}"
