"""Both versions of a rollout decide a request: what is reused, what is asked for, graded, paid, shed and written."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_models.data.starter import Task
from router_models.monitoring.canary import CanaryEvidence, CanaryLimits, PairedRequest
from router_models.types import Action, Completion, Query
from serve_graph.cascade import cascade
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, fake_context
from serve_graph.cascade.steps import RequestState, StreamMode, StreamTerms
from serve_graph.cascade.streaming import stream_answer
from serve_graph.config.comparisons import ComparisonsConfig
from serve_graph.config.judge import JudgeConfig
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.comparing.comparison_metrics import ComparisonMetrics
from serve_graph.learning.comparing.tally import tallied, tally_sentences
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeTiers
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.records.comparisons import Comparison, comparison_line
from serve_graph.records.kept_requests import BESIDE

SHOWN = re.compile(r"BEGIN (?:FIRST|SECOND) ANSWER (\w+)\n(.*?)\nEND", re.DOTALL)
CHEAP_USD, FRONTIER_USD, PAIR_USD = Decimal("0.00002"), Decimal("0.0002"), Decimal("0.00004")
"""What a fake tier's answer costs, and a pair's grading in both orders."""


@dataclass
class Critic(FakeEngine):
    """A judge for which these texts are right; `says` is its verdict instead, whatever stands first."""

    right: frozenset[str] = frozenset({"frontier says"})
    says: str | None = None

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        [(nonce, first), (_, second)] = SHOWN.findall(query.messages[0].content)
        found = (first in self.right, second in self.right)
        words = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}
        return Completion(f"VERDICT {nonce}: {self.says or words[found]}", "stop", done.usage)


class TiesLast(Critic):
    """Of a pair with the last tier's answer it prefers whichever stands first."""

    async def generate(self, query: Query, left_s: float = float("inf")) -> Completion:
        done = await super().generate(query, left_s)
        if "frontier says" not in query.messages[0].content:
            return done
        return replace(done, text=f"{done.text.rpartition(' ')[0]} first")


def version(tier: str = "cheap", verdict: Action = Action.ACCEPTED) -> CascadeContext:
    """A version that sends everything to a tier, and gives every cheap answer this verdict."""
    return fake_context(decider=FakeDecider(tier), judge=FakeJudge(verdict))


ACCEPTS, ESCALATES, SENDS_UP = version(), version(verdict=Action.ESCALATED), version("frontier")


async def served(
    stable: CascadeContext,
    candidate: CascadeContext,
    *,
    arm: Any = "stable",
    stream: StreamTerms | None = None,
    query: Query | None = None,
    **fields: Any,
) -> ComparedRequest:
    """A request that one of two versions has answered."""
    both, state = {"stable": stable, "candidate": candidate}, RequestState()
    query = query or Query.from_prompt("2 + 2?")
    await cascade.answer(both[arm], query, None, state, stream)
    usd = sum((line.cost_usd for line in (*state.calls, *state.overhead)), Decimal(0))
    given: dict[str, Any] = {"decision": "dec-1", "slices": lambda: ("en",), "stream": stream}
    return ComparedRequest(
        rollout="rol-1", arm=arm, weight=0.05, unit="ab", probability=0.25, last_tier="frontier",
        query=query, state=state, usd=usd, context_of=lambda name: both[name], **given | fields,
    )  # fmt: skip


@dataclass
class Rig:
    """A Comparer over fakes, what it wrote, and whom it called."""

    comparer: Comparer
    critic: FakeEngine
    engines: dict[str, FakeEngine]
    rows: list[Comparison] = field(default_factory=list)

    @property
    def metrics(self) -> ComparisonMetrics:
        return self.comparer.metrics

    def asked(self) -> dict[str, int]:
        """How many calls each tier had from the comparer."""
        return {name: len(engine.queries) for name, engine in self.engines.items() if engine.queries}

    async def compared(self, stable: CascadeContext, candidate: CascadeContext, **given: Any) -> Comparison:
        """Compare one request; the row."""
        await self.comparer.compare(await served(stable, candidate, **given))
        return self.rows[-1]

    @asynccontextmanager
    async def running(self, until: Callable[[], Any]) -> AsyncIterator[None]:
        """Its workers run, in the end until something is so."""
        task = asyncio.ensure_future(self.comparer.run())
        try:
            yield
            async with asyncio.timeout(5):
                while not until():
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Rig]:
    def make(
        critic: FakeEngine | None = None,
        tiers: Any = None,
        engines: Any = None,
        gives_way: Callable[[], bool] = lambda: False,
        **settings: Any,
    ) -> Rig:
        named = {"cheap": FakeEngine("cheap says"), "frontier": FakeEngine("frontier says"), **(engines or {})}
        named["critic"] = critic or Critic()
        known = JudgeTiers(named, {**PRICES, "middle": PRICES["cheap"], "critic": PRICES["cheap"]}, **(tiers or {}))
        config, rows = ComparisonsConfig.model_validate({"within_s": 0.4} | settings), list[Comparison]()
        budget = JudgeBudget(tmp_path / f"{len(settings)}.json", config.budget_usd_per_day)
        grading = JudgeConfig(tier="critic", mode="pairwise", timeout_s=0.2)
        made = Comparer(
            config,
            grading,
            "judge:critic/m",
            known,
            rows.append,
            budget,
            gives_way=gives_way,
            after_s=0.0,
            busy_loop_s=10.0,
        )
        return Rig(made, named["critic"], named, rows)

    return make


async def test_two_versions_that_decide_alike_cost_no_call_and_no_grade(rig: Callable[..., Rig]) -> None:
    at = rig()
    for stable, candidate in ((ACCEPTS, version()), (ESCALATES, version(verdict=Action.ESCALATED))):
        row = await at.compared(stable, candidate)
        assert (row.alike, row.same_answer, row.grader, row.ungraded_reason) == (True, True, None, None)
        assert row.stable_usd == row.candidate_usd > 0
    assert at.asked() == {}
    assert at.metrics.made == {"alike": 2}
    assert (row.rollout, row.decision, row.arm, row.weight, row.unit, row.probability, row.slices) == (
        "rol-1", "dec-1", "stable", 0.05, "ab", 0.25, ("en",),
    )  # fmt: skip


@pytest.mark.parametrize("arm", ["stable", "candidate"])
async def test_what_differs_is_asked_for_once_and_graded_whichever_version_served(
    rig: Callable[..., Rig], arm: str
) -> None:
    """A cheap answer is wrong where the last tier's is right: that is harm, and the other version avoids it."""
    at = rig()
    row = await at.compared(ACCEPTS, SENDS_UP, arm=arm, group="s1")
    assert at.asked() == {"critic": 2, "frontier" if arm == "stable" else "cheap": 1}
    assert not row.same_answer
    assert (row.stable_tier, row.candidate_tier) == ("cheap", "frontier")
    assert (row.stable_action, row.candidate_action) == ("accepted", "routed")
    assert (row.stable_right, row.candidate_right) == (0.0, 1.0)
    assert (row.stable_harm, row.candidate_harm) == (True, False)
    assert (row.stable_usd, row.candidate_usd) == (CHEAP_USD, FRONTIER_USD)
    assert (row.grader, row.ungraded_reason) == ("judge:critic/m", None)
    made = FRONTIER_USD if arm == "stable" else CHEAP_USD
    assert (row.paired().group, row.paired().last_usd) == ("s1", float(FRONTIER_USD))
    assert Decimal(row.detail["comparing_usd"]) == made + PAIR_USD == at.comparer.calls.budget.spent()


async def test_answers_that_were_not_shown_are_kept_with_the_row_where_answers_are(rig: Callable[..., Rig]) -> None:
    at = rig()
    at.comparer.keep_answer = str.upper
    asked, rejected = [await at.compared(*pair) for pair in ((ACCEPTS, SENDS_UP), (ESCALATES, ACCEPTS))]
    assert [[(one["tier"], one["answer"]) for one in row.detail[BESIDE]] for row in (asked, rejected)] == [
        [("frontier", "FRONTIER SAYS")],
        [("cheap", "CHEAP SAYS")],
    ]
    alike = await at.compared(ACCEPTS, version())
    assert BESIDE not in alike.detail
    at.comparer.keep_answer = None
    assert BESIDE not in (await at.compared(ACCEPTS, SENDS_UP)).detail


async def test_answers_to_known_tasks_are_graded_by_their_program_and_the_row_names_it(
    rig: Callable[..., Rig],
) -> None:
    at = rig()
    known = Task("q1", "2 + 2?", "", 1, "en", "mentions", {"accepted": ["frontier"]}, "frontier", None)
    at.comparer.programs = TaskGraders.of([known])
    row = await at.compared(ACCEPTS, SENDS_UP)
    assert at.asked() == {"frontier": 1}, "no judge is asked"
    assert (row.stable_right, row.candidate_right, row.stable_harm, row.candidate_harm) == (0.0, 1.0, True, False)
    assert (row.grader, row.detail["task"], row.detail["task_grader"]) == ("programmatic", "q1", "mentions")
    other = await at.compared(ACCEPTS, SENDS_UP, query=Query.from_prompt("3 + 3?"))
    assert (other.grader, "task" in other.detail) == ("judge:critic/m", False)


async def test_of_a_known_task_harm_asks_the_last_tier_too_and_a_grader_that_fails_is_a_reason(
    rig: Callable[..., Rig],
) -> None:
    middle = FakeEngine("middle says")
    at = rig(engines={"middle": middle})
    known = Task("q1", "2 + 2?", "", 1, "en", "mentions", {"accepted": ["frontier"]}, "frontier", None)
    at.comparer.programs = TaskGraders.of([known])
    row = await at.compared(*two_of_three_tiers(middle))
    assert (row.stable_harm, row.candidate_harm) == (True, True)
    at.comparer.programs = TaskGraders.of([replace(known, grader="none")])
    assert (await at.compared(ACCEPTS, SENDS_UP)).ungraded_reason == "error"


async def test_a_rejected_answer_is_at_hand_too(rig: Callable[..., Rig]) -> None:
    """The candidate accepts what the stable version rejected: both answers were made for the request."""
    at = rig(Critic(right=frozenset()))
    row = await at.compared(ESCALATES, ACCEPTS)
    assert at.asked() == {"critic": 2}
    assert (row.stable_action, row.candidate_action) == ("escalated", "accepted")
    assert (row.stable_right, row.candidate_right, row.candidate_harm) == (0.0, 0.0, False), "both wrong: no harm"
    assert (row.stable_usd, row.candidate_usd) == (CHEAP_USD + FRONTIER_USD, CHEAP_USD)


async def test_the_same_answer_by_another_path_needs_no_grade_and_its_cost_differs(rig: Callable[..., Rig]) -> None:
    at = rig()
    row = await at.compared(SENDS_UP, ESCALATES)
    assert (row.alike, row.same_answer, row.ungraded_reason) == (False, True, None)
    assert (row.stable_usd, row.candidate_usd) == (FRONTIER_USD, FRONTIER_USD + CHEAP_USD)
    assert at.asked() == {"cheap": 1}, "the candidate's rejected try is made, and nobody grades"
    assert row.detail["calls"] == {"stable": ["frontier"], "candidate": ["cheap", "frontier"]}
    twins = rig(engines={"frontier": FakeEngine("cheap says \n")})
    assert (await twins.compared(ACCEPTS, SENDS_UP)).same_answer
    assert twins.metrics.made == {"same_answer": 1}


def two_of_three_tiers(middle: FakeEngine) -> list[CascadeContext]:
    """A version that sends everything to the cheap tier, and one that does to the middle of three."""
    return [
        replace(
            version(tier),
            engines={"cheap": FakeEngine("cheap says"), "middle": middle, "frontier": FakeEngine("no")},
            prices={**PRICES, "middle": PRICES["cheap"]},
            policy=replace(version().policy, tiers=("cheap", "middle", "frontier")),
        )
        for tier in ("cheap", "middle")
    ]


async def test_between_two_tiers_below_the_last_harm_asks_what_the_last_one_says(rig: Callable[..., Rig]) -> None:
    """Of three tiers the last one's answer is no version's: it is asked for where an answer is wrong."""
    middle = FakeEngine("middle says")
    three = two_of_three_tiers(middle)
    at = rig(Critic(right=frozenset({"middle says", "frontier says"})), engines={"middle": middle})
    row = await at.compared(*three)
    assert (row.stable_tier, row.candidate_tier) == ("cheap", "middle")
    assert (row.stable_right, row.candidate_right) == (0.0, 1.0)
    assert (row.stable_harm, row.candidate_harm) == (True, False)
    assert len(at.critic.queries) == 4
    tied = rig(TiesLast(right=frozenset({"middle says"})), engines={"middle": middle})
    row = await tied.compared(*three)
    assert (row.stable_right, row.stable_harm, len(tied.critic.queries)) == (0.0, False, 4), "no worse than the last"
    fine = rig(Critic(right=frozenset({"middle says", "cheap says"})), engines={"middle": middle})
    row = await fine.compared(*three)
    assert (row.stable_harm, row.candidate_harm, len(fine.critic.queries)) == (False, False, 2)


PICTURE = Query((), {}, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})
TWO = replace(Query.from_prompt("2?"), parameters={"n": 2})
CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
UNGRADED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("unparsable", {"critic": Critic(says="perhaps")}, {}),
    ("timeout", {"critic": Critic(slow_s=5.0)}, {}),
    ("judge", {"critic": Critic(error=EngineError("down"))}, {}),
    ("busy", {"critic": Critic(error=SaturatedError("full"))}, {}),
    ("error", {"critic": Critic(error=RuntimeError("a bug"))}, {}),
    ("tool calls", {"engines": {"frontier": FakeEngine("", tool_calls=CALLS)}}, {}),
    ("too long", {"max_chars": 25}, {}),
    ("no text", {}, {"query": PICTURE}),
    ("several answers", {}, {"query": TWO}),
]


async def test_a_judge_whose_word_depends_on_the_order_finds_a_tie(rig: Callable[..., Rig]) -> None:
    at = rig(Critic(says="first"))
    row = await at.compared(ACCEPTS, SENDS_UP)
    assert (row.is_tie, row.ungraded_reason, row.stable_right, row.candidate_harm) == (True, None, None, None)
    assert row.paired().tie
    assert "a tie (judge:" in comparison_line(row)
    assert (at.metrics.made, at.metrics.ungraded) == ({"tie": 1}, {})


@pytest.mark.parametrize(("why", "settings", "given"), UNGRADED)
async def test_what_is_not_graded_is_a_row_that_says_why(
    rig: Callable[..., Rig], why: str, settings: dict[str, Any], given: dict[str, Any]
) -> None:
    at = rig(**settings)
    row = await at.compared(ACCEPTS, SENDS_UP, **given)
    assert (row.ungraded_reason, row.same_answer, row.stable_right, row.candidate_harm) == (why, False, None, None)
    assert (row.stable_tier, row.candidate_tier, row.candidate_action) == ("cheap", "frontier", "routed")
    assert at.metrics.ungraded == {why: 1}


CUT_OFF: list[tuple[str, dict[str, Any], Any]] = [
    ("busy", {"tiers": {"is_busy": lambda tier: tier == "frontier"}}, SENDS_UP),
    ("busy", {"engines": {"frontier": FakeEngine(error=SaturatedError("full"))}}, SENDS_UP),
    ("timeout", {"engines": {"frontier": FakeEngine(error=EngineTimeoutError("late"))}}, SENDS_UP),
    ("tier", {"engines": {"frontier": FakeEngine(error=EngineError("down"))}}, SENDS_UP),
    ("refused", {"engines": {"frontier": FakeEngine(error=EngineRequestError("no"))}}, SENDS_UP),
    ("router", {}, fake_context(decider=FakeDecider(error=PolicyUnavailableError("away")))),
    ("verifier", {}, fake_context(judge=FakeJudge(error=PolicyUnavailableError("away")))),
    ("error", {}, fake_context(decider=FakeDecider(error=RuntimeError("a bug")))),
]


@pytest.mark.parametrize(("why", "settings", "candidate"), CUT_OFF)
async def test_a_path_that_cannot_be_gone_to_its_end_is_a_row_too_and_no_fallback(
    rig: Callable[..., Rig], why: str, settings: dict[str, Any], candidate: Any
) -> None:
    """Rows are not left out once it is known that versions differ: what is left would look alike."""
    at = rig(**settings)
    row = await at.compared(ACCEPTS, candidate)
    assert (row.ungraded_reason, row.alike, row.candidate_right) == (why, False, None)
    assert row.stable_usd == CHEAP_USD
    assert row.candidate_action != "fallback"
    if why in ("busy", "timeout", "tier"):
        assert row.candidate_tier == "frontier"
        assert row.candidate_usd == FRONTIER_USD, "what an answer of that length would cost"


async def test_abstaining_by_both_is_alike_and_by_one_is_ungraded(rig: Callable[..., Rig]) -> None:
    abstains = version(verdict=Action.ABSTAINED)
    both = await rig().compared(abstains, version(verdict=Action.ABSTAINED))
    one = await rig().compared(abstains, SENDS_UP)
    assert (both.alike, both.stable_action) == (True, "abstained")
    assert (one.same_answer, one.ungraded_reason) == (False, "abstained")
    assert (one.stable_right, one.stable_harm) == (0.0, False), "no answer is neither right nor harm"
    assert (one.candidate_right, one.candidate_harm) == (None, None)


async def test_what_came_about_because_something_was_away_is_decided_anew_by_both(rig: Callable[..., Rig]) -> None:
    """The router was away, so that the last tier answered: neither version's rules did that."""
    away = fake_context(decider=FakeDecider(error=PolicyUnavailableError("away")))
    at, both = rig(), {"stable": SENDS_UP, "candidate": ACCEPTS}
    request = await served(away, ACCEPTS)
    assert request.state.action is Action.FALLBACK
    await at.comparer.compare(replace(request, context_of=lambda arm: both[arm]))
    row = at.rows[-1]
    assert (row.stable_action, row.candidate_action) == ("routed", "accepted")
    assert at.asked() == {"cheap": 1, "critic": 2}


async def test_streams_are_decided_by_the_rules_of_their_mode(rig: Callable[..., Rig]) -> None:
    """A stream that is shown at once has no verdict, whichever version: a stricter verifier changes nothing."""
    at, found = rig(), {}
    for mode in (StreamMode.ROUTE, StreamMode.VERIFY, StreamMode.PREFIX):
        row = await at.compared(ACCEPTS, ESCALATES, stream=StreamTerms(mode, 1.0))
        found[mode] = row.stable_action, row.candidate_action, row.alike
    assert found == {
        StreamMode.ROUTE: ("routed", "routed", True),
        StreamMode.VERIFY: ("accepted", "escalated", False),
        StreamMode.PREFIX: ("accepted", "escalated", False),
    }


async def test_a_stream_that_was_shown_unjudged_because_it_was_late_is_decided_anew(rig: Callable[..., Rig]) -> None:
    """By `at_first_token: commit`. The stable version would have escalated it, as the candidate does."""
    terms = StreamTerms(StreamMode.VERIFY, 0.01, "commit")
    slow, state = version(verdict=Action.ESCALATED), RequestState()
    slow = replace(slow, streams={**slow.streams, "cheap": FakeEngine("cheap says", slow_s=0.05)})
    query = Query.from_prompt("2 + 2?")
    assert [piece async for piece in stream_answer(slow, query, None, terms, state)]
    assert (state.action, state.tier, state.verdict) == (Action.ROUTED, "cheap", None)
    at = rig()
    request = replace(await served(ESCALATES, ESCALATES), state=state, stream=terms)
    await at.comparer.compare(request)
    assert (at.rows[-1].alike, at.rows[-1].stable_action) == (True, "escalated")
    assert at.asked() == {"frontier": 1}


def test_the_share_that_is_drawn_is_the_rollouts_and_grows_with_it(rig: Callable[..., Rig]) -> None:
    comparer, names = rig().comparer, [f"dec-{i}" for i in range(4000)]
    few, more = ({name for name in names if comparer.draws(name, rate)} for rate in (0.05, 0.2))
    assert 140 <= len(few) <= 260
    assert 700 <= len(more) <= 900
    assert few < more
    assert comparer.draws("dec-1", 1.0)
    assert not comparer.draws("dec-1", 0.0)


async def test_offering_waits_for_nothing_and_what_does_not_fit_is_shed(rig: Callable[..., Rig]) -> None:
    """A worker waits for a tier; requests are done with microseconds each, and the event loop stays theirs."""
    at = rig(max_queued=50, concurrency=1, engines={"frontier": FakeEngine(slow_s=0.1)})
    request = await served(ACCEPTS, SENDS_UP)
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(request)
        async with asyncio.timeout(5):
            while not at.engines["frontier"].queries:
                await asyncio.sleep(0)
        started = time.thread_time()
        for i in range(1_000):
            at.comparer.offer(replace(request, decision=f"dec-{i + 2}"))
        assert (time.thread_time() - started) / 1_000 < 0.0005
        assert (at.metrics.shed, at.metrics.waiting, at.rows) == ({"queue": 950}, 50, [])
    assert at.rows[0].decision == "dec-1"


async def test_a_failed_request_is_a_row_that_counts_against_the_candidate_however_busy_it_is(
    rig: Callable[..., Rig],
) -> None:
    made = rig(gives_way=lambda: True)
    failed = replace(await served(ACCEPTS, ESCALATES, arm="candidate"), failed=True)
    made.comparer.offer(failed)
    async with made.running(lambda: made.rows):
        pass
    [row] = made.rows
    assert (row.candidate_action, row.ungraded_reason, row.same_answer, row.stable_right) == (
        "failed", "failed", False, None,
    )  # fmt: skip
    assert made.asked() == {}
    pairs = [PairedRequest(True, None, None, None, None, 0.001, 0.001)] * 300
    verdicts = [CanaryEvidence.of(found, [], CanaryLimits()).verdict for found in (pairs, [row.paired()] * 20 + pairs)]
    assert verdicts == ["promote", "go_on"]


async def test_comparisons_give_way_before_anything_is_known_of_them(rig: Callable[..., Rig]) -> None:
    at, asked = rig(gives_way=lambda: True), list[str]()

    def context_of(arm: str) -> CascadeContext:
        asked.append(arm)
        return ACCEPTS

    async with at.running(until=lambda: at.metrics.shed):
        at.comparer.offer(replace(await served(ACCEPTS, SENDS_UP), context_of=context_of))
    assert (at.metrics.shed, at.rows, asked) == ({"busy": 1}, [], [])


async def test_what_is_busy_for_a_moment_is_waited_for_before_a_comparison_and_within_it(
    rig: Callable[..., Rig],
) -> None:
    began = time.monotonic()
    at = rig(
        gives_way=lambda: time.monotonic() - began < 0.05,
        tiers={"is_busy": lambda tier: time.monotonic() - began < 0.15},
        within_s=4,
    )
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(await served(ACCEPTS, SENDS_UP))
    assert (at.rows[0].ungraded_reason, at.rows[0].candidate_right, at.metrics.shed) == (None, 1.0, {})


async def test_a_comparison_ends_in_its_time_and_what_waited_for_it_too_long_is_shed(rig: Callable[..., Rig]) -> None:
    at = rig(concurrency=1, within_s=0.2, engines={"frontier": FakeEngine("frontier says", slow_s=5.0)})
    async with at.running(until=lambda: at.rows and at.metrics.shed):
        for decision in ("dec-1", "dec-2"):
            at.comparer.offer(await served(ACCEPTS, SENDS_UP, decision=decision))
    [row] = at.rows
    assert (row.decision, row.ungraded_reason) == ("dec-1", "timeout")
    assert row.candidate_usd > row.stable_usd, "what took too long is no cheaper than the last tier's answer"
    assert at.metrics.shed == {"busy": 1}


@pytest.mark.parametrize("candidate", [version(), SENDS_UP], ids=["alike", "differing"])
async def test_where_its_likely_cost_is_not_left_a_comparison_is_shed_whatever_it_would_show(
    rig: Callable[..., Rig], candidate: CascadeContext
) -> None:
    """Left out once it is known that versions differ, what remains would look alike; counted as lost, a spent budget
    would hold back every candidate.
    """
    asked: list[str] = []

    def context_of(arm: str) -> CascadeContext:
        asked.append(arm)
        return candidate

    at = rig(budget_usd_per_day="0.0013", tiers={"most_usd": lambda tier, query: Decimal("0.0002")})
    await at.comparer.compare(replace(await served(ACCEPTS, candidate), context_of=context_of))
    assert (at.rows, asked, at.asked(), at.metrics.shed) == ([], [], {}, {"budget": 1})
    assert at.comparer.budget.spent() == 0
    richer = rig(budget_usd_per_day="0.0014", tiers={"most_usd": lambda tier, query: Decimal("0.0002")}, max_queued=7)
    for _ in range(2):
        await richer.compared(ACCEPTS, version())
    assert (len(richer.rows), richer.comparer.budget.spent()) == (2, 0), "what is not needed is given back"


async def test_what_a_comparison_spends_beyond_its_likely_cost_is_the_days_too_and_ends_there(
    rig: Callable[..., Rig],
) -> None:
    """A judge's prompt of long answers costs more than was held for it."""

    def most_usd(tier: str, query: Query) -> Decimal:
        return Decimal("0.0001") if "cheap says" not in query.messages[0].content else Decimal("0.0008")

    left = rig(budget_usd_per_day="0.002", tiers={"most_usd": most_usd}, max_queued=9)
    assert (await left.compared(ACCEPTS, SENDS_UP)).ungraded_reason is None
    assert left.comparer.budget.spent() == FRONTIER_USD + PAIR_USD
    spent = rig(budget_usd_per_day="0.0007", tiers={"most_usd": most_usd}, concurrency=1, max_queued=9)
    assert (await spent.compared(ACCEPTS, SENDS_UP)).ungraded_reason == "budget"
    assert spent.comparer.budget.spent() == FRONTIER_USD


async def test_every_offer_of_a_rollout_is_told_of_by_what_became_of_it(rig: Callable[..., Rig]) -> None:
    at = rig(max_queued=2, concurrency=1, critic=Critic(says="first"))
    for n in range(3):
        at.comparer.offer(await served(ACCEPTS, SENDS_UP, decision=f"dec-{n}"))
    async with at.running(until=lambda: len(at.rows) == 2):
        pass
    told = await at.comparer.told("rol-1")
    assert (told["offered"], told["compared"], told["ungraded"], told["shed"]) == (3, 2, {}, {"queue": 1})
    assert told["ties"] == 2
    assert (told["spent_usd"], told["budget_usd"]) == (f"{2 * (FRONTIER_USD + PAIR_USD):f}", "1")
    assert (await at.comparer.told("rol-2"))["offered"] == 0
    [offered, spent, starved] = tally_sentences(tallied({}, [told]))
    assert offered == ("offered to be compared: 3 requests; compared: 2 (2 ties); waiting: 0; shed: 1 (1 queue)")
    assert spent == "spent on comparing today: $0.00048 of $1"
    assert "comparisons.concurrency" in starved
    assert len(tally_sentences(tallied({}, [told | {"shed": {}, "offered": 2}]))) == 2
    for n in range(9):
        at.comparer.tally(f"rol-{n}")
    assert len(at.comparer._tallies) == 4


async def test_comparisons_give_way_while_the_event_loop_is_busy(rig: Callable[..., Rig]) -> None:
    at = rig()
    at.comparer.busy_loop_s = -1.0  # however quick a turn of it is
    async with at.running(until=lambda: at.metrics.shed):
        at.comparer.offer(await served(ACCEPTS, version()))
    assert (at.metrics.shed, at.rows) == ({"busy": 1}, [])


PICTURE = {"type": "image_url", "image_url": {"url": "x" * (12 * 1024 * 1024)}}
TOOL = {"type": "function", "function": {"name": "f", "description": "x" * (12 * 1024 * 1024)}}


@pytest.mark.parametrize(
    "parameters", [{"messages": [{"role": "user", "content": [PICTURE]}]}, {"tools": [TOOL]}], ids=["picture", "tool"]
)
async def test_requests_that_wait_fill_no_memory(rig: Callable[..., Rig], parameters: dict[str, Any]) -> None:
    """Requests that hold more than all that may wait are shed; those that end make room."""
    at = rig()
    request = await served(ACCEPTS, version(), query=Query((), {}, parameters))
    for _ in range(4):
        at.comparer.offer(request)
    assert (at.metrics.shed, at.metrics.waiting) == ({"queue": 2}, 2)
    async with at.running(until=lambda: len(at.rows) == 3):
        async with asyncio.timeout(5):
            while len(at.rows) < 2:
                await asyncio.sleep(0.005)
        at.comparer.offer(request)


async def test_a_row_that_cannot_be_made_ends_no_worker(rig: Callable[..., Rig]) -> None:
    def unsliced() -> tuple[str, ...]:
        raise ValueError("no such slicer")

    at = rig(concurrency=1)
    async with at.running(until=lambda: at.rows):
        at.comparer.offer(await served(ACCEPTS, version(), slices=unsliced))
        at.comparer.offer(await served(ACCEPTS, version(), decision="dec-2"))
    assert [row.decision for row in at.rows] == ["dec-2"]
    assert at.metrics.shed == {"error": 1}
