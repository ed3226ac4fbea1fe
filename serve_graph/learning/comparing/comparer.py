"""Have the other version of a rollout decide requests that one version has answered, and grade what differs.

A request only hands itself over (`Comparer.offer`, which waits for nothing); a few workers do the rest later. Requests
that are shed are so before anything is known of how the other version decides, so that what remains is still a fair
sample. From then on there is a row, with the reason where it has no grades.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.monitoring.canary import Arm
from router_models.pricing.prices import plain_decimal
from serve_graph.cascade.context import CascadeContext
from serve_graph.config.comparisons import ComparisonsConfig
from serve_graph.config.judge import JudgeConfig
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.comparison_metrics import ComparisonMetrics
from serve_graph.learning.comparing.grading import PairGrader, PairGrades, is_same_answer
from serve_graph.learning.comparing.paths import FAILED, NO_TIER, PathTaken, TierAnswers, path_of, served_path
from serve_graph.learning.held import HeldRoom, held_chars
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeCalls, JudgeTiers
from serve_graph.learning.judging.judge_prompts import fresh_nonce
from serve_graph.learning.judging.judge_questions import JudgeQuestions
from serve_graph.records.comparisons import Comparison
from serve_graph.records.kept_requests import BESIDE, beside_answer

logger = logging.getLogger(__name__)
SETTLES_S = 1.0
"""Seconds between a request's end and its comparison: its reply has left by then."""
UNDECIDED = "unknown"
BUSY_LOOP_S = 0.1
"""How long a turn of the event loop may take, with whatever requests do in it, before comparisons give way."""


class Comparer:
    """Compare the two versions of a rollout, in the background, and write down what comes of it.

    Parameters
    ----------
    config : ComparisonsConfig
        How much, how many at once, how long.
    grading : JudgeConfig
        Who grades, and how it is asked; pairwise.
    source : str
        The grader's name, as labels name sources.
    tiers : JudgeTiers
        Whom to call.
    write : callable
        Keeps a comparison, so that it survives this process: the spool's.
    budget : JudgeBudget
        The day's money, shared by replicas.
    gives_way : callable
        Whether comparisons are to be left out now, as something else is busy.
    busy_loop_s : float
        Seconds of a turn of the event loop beyond which they are left out as well.
    apart : callable
        A version's context with router and verifier whose failures here are no request's matter.
    keep_answer : callable, optional
        Prepares the texts of answers that were not shown to be kept with the row; None: they are not kept.
    """

    def __init__(
        self,
        config: ComparisonsConfig,
        grading: JudgeConfig,
        source: str,
        tiers: JudgeTiers,
        write: Callable[[Comparison], None],
        budget: JudgeBudget,
        *,
        gives_way: Callable[[], bool] = lambda: False,
        apart: Callable[[CascadeContext], CascadeContext] = lambda context: context,
        keep_answer: Callable[[str], str | None] | None = None,
        after_s: float = SETTLES_S,
        busy_loop_s: float = BUSY_LOOP_S,
        nonce: Callable[..., str] = fresh_nonce,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.config = config
        self.write = write
        self.gives_way = gives_way
        self.apart = apart
        self.keep_answer = keep_answer
        self.after_s = after_s
        self.busy_loop_s = busy_loop_s
        self.clock = clock
        self.now = now
        self.metrics = ComparisonMetrics()
        self.calls = JudgeCalls(tiers, budget, self.metrics, config.concurrency, grading.timeout_s)
        self.grader = PairGrader(JudgeQuestions(grading, self.calls, nonce), source, config.max_chars)
        self._queue: asyncio.Queue[tuple[float, int, ComparedRequest]] = asyncio.Queue(config.max_queued)
        self._room = HeldRoom()

    def draws(self, decision: str, rate: float) -> bool:
        """Whether a decision is in the share that is compared: by a hash of its id."""
        digest = hashlib.sha256(f"compare {decision}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8], "big") < rate * 2**64

    def offer(self, request: ComparedRequest) -> None:
        """Have a request that was drawn compared later, where there is room. Waits for nothing, and never raises."""
        chars = 0 if self._queue.full() else _held_by(request)
        if self._queue.full() or not self._room.take(chars):
            self.metrics.shed["queue"] += 1
            return
        self._queue.put_nowait((self.clock() + self.after_s, chars, request))
        self.metrics.waiting = self._queue.qsize()

    async def run(self) -> None:
        """Compare what was offered, for ever. Cancelled, it ends the calls that are under way and forgets the rest."""
        await asyncio.gather(*(self._work() for _ in range(self.config.concurrency)))

    async def _work(self) -> None:
        while True:
            due, chars, request = await self._queue.get()
            self.metrics.waiting = self._queue.qsize()
            await asyncio.sleep(max(0.0, due - self.clock()))
            self._room.give_back(chars)
            is_work = not request.failed
            if is_work and (self.gives_way() or await self._turn_s() > self.busy_loop_s):
                self.metrics.shed["busy"] += 1
                continue
            try:
                await self.compare(request)
            except Exception as error:  # noqa: BLE001 (its row cannot be written: the others' can)
                self.metrics.shed["error"] += 1
                logger.error("the comparison of %s is lost: %s", request.decision, type(error).__name__)

    async def _turn_s(self) -> float:
        """Seconds of one turn of the event loop."""
        began = self.clock()
        await asyncio.sleep(0)
        return self.clock() - began

    async def compare(self, request: ComparedRequest) -> None:
        """Compare one request and write its row; whatever goes wrong is the row's reason."""
        answers, grades = TierAnswers.of(request, self.calls), PairGrades()
        paths: dict[str, PathTaken] = {}
        try:
            if request.failed:
                paths[request.arm] = PathTaken(NO_TIER, FAILED, None, request.usd, FAILED)
                grades.why_not = FAILED
            else:
                paths[request.arm] = served_path(request) or await self._path(request, request.arm, answers)
                paths[request.other] = await self._path(request, request.other, answers)
                grades = await self.grader.grade(request, paths["stable"], paths["candidate"], answers)
        except Exception as error:  # noqa: BLE001 (a comparison that fails must not end those that work)
            logger.error("%s was not compared: %s", request.decision, type(error).__name__)
            grades.why_not = "error"
        unknown = PathTaken(NO_TIER, UNDECIDED, None, request.usd, "error")
        stable, candidate = (paths.get(arm, unknown) for arm in ("stable", "candidate"))
        row = self._row(request, stable, candidate, grades, answers.spent_usd + grades.usd)
        self.write(replace(row, detail={**row.detail, **self._beside(request, answers)}))

    def _beside(self, request: ComparedRequest, answers: TierAnswers) -> dict[str, Any]:
        """The answers that were made for a request and not shown, where they are kept."""
        if self.keep_answer is None:
            return {}
        shown = request.state.tier if request.state.completion is not None else None
        others = [(tier, made) for tier, made in answers.answers.items() if tier != shown]
        return {BESIDE: [beside_answer(tier, made, self.keep_answer) for tier, made in others]} if others else {}

    async def _path(self, request: ComparedRequest, arm: Arm, answers: TierAnswers) -> PathTaken:
        context = self.apart(request.context_of(arm))
        return await path_of(context, request.query, request.stream, answers)

    def _row(
        self, request: ComparedRequest, stable: PathTaken, candidate: PathTaken, grades: PairGrades, spent: Decimal
    ) -> Comparison:
        same = is_same_answer(stable, candidate)
        alike = same and (stable.tier, stable.action) == (candidate.tier, candidate.action)
        result = "alike" if alike else "same_answer" if same else "ungraded" if grades.why_not else "graded"
        self.metrics.made[result] += 1
        if grades.why_not is not None:
            self.metrics.ungraded[grades.why_not] += 1
        return Comparison(
            request.rollout,
            request.decision,
            self.now().isoformat(timespec="milliseconds"),
            request.arm,
            request.weight,
            request.unit,
            request.probability,
            alike,
            same,
            stable.tier,
            candidate.tier,
            stable.action,
            candidate.action,
            stable.usd,
            candidate.usd,
            None if grades.stable_right is None else float(grades.stable_right),
            None if grades.candidate_right is None else float(grades.candidate_right),
            grades.stable_harm,
            grades.candidate_harm,
            request.slices(),
            grades.grader,
            grades.why_not,
            {"comparing_usd": plain_decimal(spent), "group": request.group},
        )


def _held_by(request: ComparedRequest) -> int:
    state = request.state
    return held_chars(request.query, state.completion, state.tried, state.rejected[1] if state.rejected else None)
