"""Have the other version of a rollout decide requests that one version has answered, and grade what differs.

A request only hands itself over (`Comparer.offer`, which waits for nothing); a few workers do the rest later.

What is shed is so before the other version decides, and is no row. Whether it is depends on the request (its size, its
likely cost), on those that were compared before it, on what is left of the day's budget and on what others do at the
moment: on neither version's answer to it, nor on how the two differ. Given the request, what is missing is missing at
random (Rubin 1976), and what remains a fair sample of the requests that are compared; counted as lost, shed requests
would hold back a candidate for the load of the graph. Each place was open or not before its own difference was known,
so that tests that may be looked at any time hold for what remains in order of arrival. From the other version's
decision on there is a row, with the reason where it has no grades: those do depend on answers, and count as lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from router_models.monitoring.canary import Arm
from router_models.pricing.prices import plain_decimal
from serve_graph.cascade.context import CascadeContext
from serve_graph.config.judge import JudgeConfig
from serve_graph.config.rollouts import ComparisonsConfig
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.comparison_metrics import ComparisonMetrics
from serve_graph.learning.comparing.comparison_row import comparison_row
from serve_graph.learning.comparing.grading import PairGrader, PairGrades
from serve_graph.learning.comparing.likely_cost import likely_usd
from serve_graph.learning.comparing.paths import (
    FAILED,
    NO_TIER,
    PathTaken,
    TierAnswers,
    beside_of,
    path_of,
    served_path,
)
from serve_graph.learning.comparing.tally import ComparisonTally
from serve_graph.learning.held import HeldRoom, held_chars
from serve_graph.learning.judging.held_sum import held_sum
from serve_graph.learning.judging.judge_budget import Budget, JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeCalls, JudgeTiers
from serve_graph.learning.judging.judge_prompts import fresh_nonce
from serve_graph.learning.judging.judge_questions import JudgeQuestions
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.records.comparisons import TIE, Comparison

logger = logging.getLogger(__name__)
SETTLES_S = 1.0
"""Seconds between a request's end and its comparison: its reply has left by then."""
UNDECIDED = "unknown"
LOOKS_EVERY_S = 0.25
"""How often a comparison that waits looks whether what it gives way to is still busy."""
CALLS_WAIT = 0.1
"""For which part of `within_s` a call waits for a tier that is busy, once the comparison has begun."""
TALLIES_KEPT = 4
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
    programs : TaskGraders, optional
        The tasks that programs grade, instead of the judge.
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
        programs: TaskGraders | None = None,
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
        self.programs = programs
        self.after_s = after_s
        self.busy_loop_s = busy_loop_s
        self.clock = clock
        self.now = now
        self.metrics = ComparisonMetrics()
        self.tiers, self.budget, self.grading, self.source, self.nonce = tiers, budget, grading, source, nonce
        waits_s = CALLS_WAIT * config.within_s
        self.calls = JudgeCalls(tiers, budget, self.metrics, config.concurrency, grading.timeout_s, waits_s)
        self.template = self._grader(budget).template
        self._queue: asyncio.Queue[tuple[float, int, ComparedRequest]] = asyncio.Queue(config.max_queued)
        self._room = HeldRoom()
        self._name = uuid.uuid4().hex[:12]
        self._tallies: dict[str, ComparisonTally] = {}

    def draws(self, decision: str, rate: float) -> bool:
        """Whether a decision is in the share that is compared: by a hash of its id."""
        digest = hashlib.sha256(f"compare {decision}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8], "big") < rate * 2**64

    def offer(self, request: ComparedRequest) -> None:
        """Have a request that was drawn compared later, where there is room. Waits for nothing, and never raises.

        There is room or not whatever its answers are: they are counted once it is in.
        """
        self.tally(request.rollout).offered += 1
        asked = 0 if self._queue.full() else held_chars(request.query)
        chars = 0 if self._queue.full() else _held_by(request)
        if self._queue.full() or not self._room.take(chars, asked):
            self._shed(request, "queue")
            return
        self._queue.put_nowait((self.clock(), chars, request))
        self.metrics.waiting = self._queue.qsize()

    def tally(self, rollout: str) -> ComparisonTally:
        """What became of a rollout's requests here; kept of the last few rollouts."""
        if rollout not in self._tallies:
            while len(self._tallies) >= TALLIES_KEPT:
                del self._tallies[next(iter(self._tallies))]
            self._tallies[rollout] = ComparisonTally()
        return self._tallies[rollout]

    async def told(self, rollout: str) -> dict[str, Any]:
        """The tally of a rollout, with this replica's name and the day's budget, as `tallied` takes it."""
        tally = self.tally(rollout).told()
        try:
            spent: str | None = plain_decimal(await asyncio.to_thread(self.budget.spent))
        except (OSError, ValueError):
            spent = None
        return {
            **tally,
            "replica": self._name,
            "spent_usd": spent,
            "budget_usd": plain_decimal(self.budget.usd_per_day),
        }

    def _shed(self, request: ComparedRequest, why: str) -> None:
        self.metrics.shed[why] += 1
        self.tally(request.rollout).shed[why] += 1

    async def run(self) -> None:
        """Compare what was offered, for ever. Cancelled, it ends the calls that are under way and forgets the rest."""
        await asyncio.gather(*(self._work() for _ in range(self.config.concurrency)))

    async def _work(self) -> None:
        while True:
            offered, chars, request = await self._queue.get()
            self.metrics.waiting = self._queue.qsize()
            await asyncio.sleep(max(0.0, offered + self.after_s - self.clock()))
            if not request.failed and not await self._has_way(offered + self.config.within_s / 2):
                self._room.give_back(chars)
                self._shed(request, "busy")
                continue
            self._room.give_back(chars)
            try:
                await self.compare(request, offered + self.config.within_s)
            except Exception as error:  # noqa: BLE001 (its row cannot be written: the others' can)
                self._shed(request, "error")
                logger.error("the comparison of %s is lost: %s", request.decision, type(error).__name__)

    async def _has_way(self, until: float) -> bool:
        """Wait until nothing is busy that comparisons give way to; False where something is until that moment."""
        while True:
            left = until - self.clock()
            if left <= 0:
                return False
            if not self.gives_way() and await self._turn_s() <= self.busy_loop_s:
                return True
            await asyncio.sleep(min(LOOKS_EVERY_S, left))

    async def _turn_s(self) -> float:
        """Seconds of one turn of the event loop."""
        began = self.clock()
        await asyncio.sleep(0)
        return self.clock() - began

    async def compare(self, request: ComparedRequest, until: float | None = None) -> None:
        """Compare one request and write its row; whatever goes wrong is the row's reason.

        It ends by `until` (of the clock). Where its likely cost is not left of the day's budget it is shed.
        """
        if request.failed:
            self._write(request, {request.arm: _failed(request)}, PairGrades(why_not=FAILED), Decimal(0), {})
            return
        usd = likely_usd(request.query, self.tiers, self.grading, self.template, self.config.max_chars)
        async with held_sum(self.budget, usd) as budget:
            if budget is None:
                self._shed(request, "budget")
                return
            left = self.config.within_s if until is None else until - self.clock()
            await self._compare(request, budget, left)

    async def _compare(self, request: ComparedRequest, budget: Budget, left_s: float) -> None:
        answers, grades = TierAnswers.of(request, self.calls.paid_from(budget)), PairGrades()
        paths: dict[str, PathTaken] = {}
        try:
            async with asyncio.timeout(left_s):
                paths[request.arm] = served_path(request) or await self._path(request, request.arm, answers)
                paths[request.other] = await self._path(request, request.other, answers)
                grader = self._grader(budget)
                grades = await grader.grade(request, paths["stable"], paths["candidate"], answers)
        except TimeoutError:
            grades.why_not = "timeout"
        except Exception as error:  # noqa: BLE001 (a comparison that fails must not end those that work)
            logger.error("%s was not compared: %s", request.decision, type(error).__name__)
            grades.why_not = "error"
        last = answers.likely_usd(request.last_tier, self.calls.tiers.prices)
        beside = {"last_usd": plain_decimal(last) if last else None, **beside_of(request, answers, self.keep_answer)}
        if "candidate" not in paths:  # whatever took so long is no cheaper than the last tier: nothing is proved by it
            paths["candidate"] = _unknown(max(request.usd, last))
        self._write(request, paths, grades, answers.spent_usd + grades.usd, beside)

    def _grader(self, budget: Budget) -> PairGrader:
        questions = JudgeQuestions(self.grading, self.calls.paid_from(budget), self.nonce)
        return PairGrader(questions, self.source, self.config.max_chars, self.programs)

    async def _path(self, request: ComparedRequest, arm: Arm, answers: TierAnswers) -> PathTaken:
        context = self.apart(request.context_of(arm))
        return await path_of(context, request.query, request.stream, answers)

    def _write(
        self,
        request: ComparedRequest,
        paths: Mapping[str, PathTaken],
        grades: PairGrades,
        spent: Decimal,
        beside: Mapping[str, Any],
    ) -> None:
        stable, candidate = (paths.get(arm) or _unknown(request.usd) for arm in ("stable", "candidate"))
        at = self.now().isoformat(timespec="milliseconds")
        row = comparison_row(request, stable, candidate, grades, spent, at, beside)
        unsaid = "ungraded" if grades.why_not else TIE if grades.tie else "graded"
        self.metrics.made["alike" if row.alike else "same_answer" if row.same_answer else unsaid] += 1
        tally = self.tally(request.rollout)
        if grades.why_not is not None:
            self.metrics.ungraded[grades.why_not] += 1
            tally.ungraded[grades.why_not] += 1
        self.write(row)
        tally.ties += grades.tie
        tally.compared += 1


def _unknown(usd: Decimal) -> PathTaken:
    return PathTaken(NO_TIER, UNDECIDED, None, usd, "error")


def _failed(request: ComparedRequest) -> PathTaken:
    return PathTaken(NO_TIER, FAILED, None, request.usd, FAILED)


def _held_by(request: ComparedRequest) -> int:
    state = request.state
    return held_chars(request.query, state.completion, state.tried, state.rejected[1] if state.rejected else None)
