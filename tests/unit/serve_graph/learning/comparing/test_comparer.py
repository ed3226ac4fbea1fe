"""Both versions of a rollout decide a request: what is reused, what is asked for, graded, paid and written."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from router_models.data.starter import Task
from router_models.types import Action, Query
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.fakes import PRICES, FakeDecider, FakeEngine, FakeJudge, fake_context
from serve_graph.cascade.steps import RequestState, StreamMode, StreamTerms
from serve_graph.cascade.streaming import stream_answer
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.records.comparisons import comparison_line
from serve_graph.records.kept_requests import BESIDE
from tests.unit.serve_graph.learning.comparing.compared import (
    ACCEPTS,
    CHEAP_USD,
    ESCALATES,
    FRONTIER_USD,
    PAIR_USD,
    SENDS_UP,
    Critic,
    Rig,
    TakenInByTheFirst,
    TiesLast,
    served,
    version,
)


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
    assert (row.is_tie, row.ungraded_reason, row.candidate_harm) == (True, None, None)
    assert (row.stable_right, row.candidate_right) == (0.5, 0.5)
    assert row.paired().tie
    assert "a tie (judge:" in comparison_line(row)
    assert (at.metrics.made, at.metrics.ungraded) == ({"tie": 1}, {})


async def test_a_tie_keeps_what_the_judge_said_over_both_orders(rig: Callable[..., Rig]) -> None:
    """It calls the cheap answer right where that stands first, and the last tier's wherever it stands."""
    at = rig(TakenInByTheFirst())
    row = await at.compared(ACCEPTS, SENDS_UP)
    assert (row.is_tie, row.stable_right, row.candidate_right) == (True, 0.5, 1.0)


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
