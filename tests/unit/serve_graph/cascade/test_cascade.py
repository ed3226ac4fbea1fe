import math
from dataclasses import replace
from decimal import Decimal

import pytest

from router_models.types import Action, Attempt, Completion, Query, Usage
from serve_graph.cascade.cascade import answer
from serve_graph.cascade.context import Graph, Trail
from serve_graph.cascade.fakes import PRICES, USAGE, FakeDecider, FakeEngine, FakeJudge, fake_graph
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)

QUERY = Query.from_prompt("why?")
DOWN = PolicyUnavailableError("no reply in 2 s")


async def asked(graph: Graph, forced: str | None = None) -> Trail:
    trail = Trail()
    await answer(graph, QUERY, forced, trail)
    return trail


def called(trail: Trail) -> list[str]:
    return [call.tier for call in trail.calls]


def text(trail: Trail) -> str:
    assert trail.completion is not None
    return trail.completion.text


async def test_accepted_cheap_answer_is_the_answer() -> None:
    trail = await asked(fake_graph())
    assert (trail.tier, trail.action, text(trail), called(trail)) == ("cheap", "accepted", "cheap says", ["cheap"])


async def test_rejected_cheap_answer_is_escalated_once() -> None:
    judge = FakeJudge(Action.ESCALATED)
    trail = await asked(fake_graph(judge=judge))
    assert (trail.tier, trail.action, text(trail)) == ("frontier", "escalated", "frontier says")
    assert called(trail) == ["cheap", "frontier"]
    assert len(judge.completions) == 1


async def test_hopeless_cheap_answer_makes_the_graph_abstain_early() -> None:
    trail = await asked(fake_graph(judge=FakeJudge(Action.ABSTAINED)))
    assert (trail.tier, trail.action, called(trail)) == ("cheap", "abstained", ["cheap"])


async def test_hard_question_goes_straight_to_the_last_tier_unjudged() -> None:
    judge = FakeJudge()
    trail = await asked(fake_graph(decider=FakeDecider("frontier", 0.1), judge=judge))
    assert (trail.tier, trail.action, called(trail)) == ("frontier", "routed", ["frontier"])
    assert judge.completions == []


@pytest.mark.parametrize("decided", ["cheap", "frontier"])
async def test_last_answer_is_judged_where_the_policy_may_abstain(decided: str) -> None:
    class EscalateThenAbstain(FakeJudge):
        async def judge(self, query, completion, decision):  # type: ignore[no-untyped-def]
            self.action = Action.ESCALATED if decision.tier == "cheap" else Action.ABSTAINED
            return await super().judge(query, completion, decision)

    trail = await asked(
        fake_graph(decider=FakeDecider(decided), judge=EscalateThenAbstain(), abstain_at_top=0.5),
    )
    assert (trail.tier, trail.action) == ("frontier", "abstained")
    assert trail.verdict is not None
    assert trail.verdict.action is Action.ABSTAINED


async def test_last_answer_stands_where_its_judge_is_down() -> None:
    graph = fake_graph(decider=FakeDecider("frontier"), judge=FakeJudge(error=DOWN), abstain_at_top=0.5)
    trail = await asked(graph)
    assert (trail.tier, trail.action, text(trail)) == ("frontier", "routed", "frontier says")
    assert "not judged" in trail.notes[0]


async def test_router_down_means_the_safe_tier_marked_fallback() -> None:
    trail = await asked(fake_graph(decider=FakeDecider(error=DOWN)))
    assert (trail.tier, trail.action, called(trail)) == ("frontier", "fallback", ["frontier"])
    assert "router unavailable" in trail.notes[0]
    assert trail.decision is None


async def test_verifier_down_means_the_safe_tier_marked_fallback() -> None:
    trail = await asked(fake_graph(judge=FakeJudge(error=DOWN)))
    assert (trail.tier, trail.action, text(trail)) == ("frontier", "fallback", "frontier says")
    assert called(trail) == ["cheap", "frontier"]
    assert "verifier unavailable" in trail.notes[0]


async def test_verifier_down_and_cheap_declared_safe_keeps_the_answer_there_is() -> None:
    cheap = FakeEngine("cheap says")
    trail = await asked(fake_graph(cheap, judge=FakeJudge(error=DOWN), safe_tier="cheap"))
    assert (trail.tier, trail.action, text(trail)) == ("cheap", "fallback", "cheap says")
    assert len(cheap.queries) == 1


@pytest.mark.parametrize("error", [EngineError("dead"), EngineTimeoutError("slow"), EngineRequestError("too long")])
async def test_cheap_failing_or_refusing_means_the_safe_tier_marked_fallback(error: EngineError) -> None:
    trail = await asked(fake_graph(FakeEngine(error=error)))
    assert (trail.tier, trail.action, text(trail)) == ("frontier", "fallback", "frontier says")
    assert called(trail) == ["frontier"]
    assert f"cheap failed: {error}" in trail.notes


async def test_an_engines_own_words_stay_out_of_the_record() -> None:
    error = EngineRequestError("cannot answer 'my secret'", recordable="its engine answered 400")
    trail = await asked(fake_graph(FakeEngine(error=error)))
    assert trail.notes == ["cheap failed: its engine answered 400"]


async def test_failing_cheap_tier_is_not_its_own_fallback() -> None:
    cheap = FakeEngine(error=EngineError("dead"))
    trail = await asked(fake_graph(cheap, safe_tier="cheap"))
    assert (trail.tier, trail.action, len(cheap.queries)) == ("frontier", "fallback", 1)


@pytest.mark.parametrize("error", [EngineError("dead"), EngineRequestError("too long", "context_length_exceeded")])
async def test_last_tier_failing_fails_the_request_as_it_failed(error: EngineError) -> None:
    with pytest.raises(EngineError) as caught:
        await asked(fake_graph(frontier=FakeEngine(error=error), decider=FakeDecider("frontier")))
    assert caught.value is error


async def test_last_tier_failing_is_answered_by_another_safe_tier() -> None:
    graph = fake_graph(
        frontier=FakeEngine(error=EngineError("dead")), decider=FakeDecider("frontier"), safe_tier="cheap"
    )
    trail = await asked(graph)
    assert (trail.tier, trail.action, text(trail), called(trail)) == ("cheap", "fallback", "cheap says", ["cheap"])


async def test_rejected_answer_is_not_given_because_the_last_tier_failed() -> None:
    frontier = FakeEngine(error=EngineError("dead"))
    graph = fake_graph(frontier=frontier, judge=FakeJudge(Action.ESCALATED), safe_tier="cheap")
    with pytest.raises(EngineError, match="dead"):
        await asked(graph)


async def test_request_that_the_last_tier_refuses_goes_nowhere_else() -> None:
    cheap = FakeEngine()
    refusing = FakeEngine(error=EngineRequestError("too long"))
    with pytest.raises(EngineRequestError):
        await asked(fake_graph(cheap, refusing, FakeDecider("frontier"), safe_tier="cheap"))
    assert cheap.queries == []


async def test_held_tier_replaces_the_routers_choice_and_is_still_judged() -> None:
    judge = FakeJudge()
    trail = Trail(held="cheap")
    await answer(fake_graph(decider=FakeDecider("frontier", 0.1), judge=judge), QUERY, None, trail)
    assert (trail.tier, trail.action, len(judge.completions)) == ("cheap", "accepted", 1)
    assert trail.decision is not None
    assert trail.decision.p_cheap_ok == 0.1


async def test_forced_tier_wins_over_a_held_one() -> None:
    trail = Trail(held="cheap")
    await answer(fake_graph(), QUERY, "frontier", trail)
    assert (trail.tier, trail.action) == ("frontier", "forced")


async def test_both_tiers_failing_fails_the_request() -> None:
    dead = EngineError("dead")
    trail = Trail()
    with pytest.raises(EngineError):
        await answer(fake_graph(FakeEngine(error=dead), FakeEngine(error=dead)), QUERY, None, trail)
    assert (trail.tier, trail.action, trail.calls) == ("frontier", "fallback", [])


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
async def test_forced_tier_answers_without_router_or_verifier(tier: str) -> None:
    decider, judge = FakeDecider(error=DOWN), FakeJudge(error=DOWN)
    trail = await asked(fake_graph(decider=decider, judge=judge, abstain_at_top=0.5), forced=tier)
    assert (trail.tier, trail.action, text(trail)) == (tier, "forced", f"{tier} says")
    assert decider.queries == []
    assert judge.completions == []


async def test_forced_tier_failing_is_not_answered_by_another() -> None:
    frontier = FakeEngine()
    with pytest.raises(EngineError):
        await asked(fake_graph(FakeEngine(error=EngineError("dead")), frontier), forced="cheap")
    assert frontier.queries == []


async def test_every_call_is_on_the_bill_at_its_tiers_price() -> None:
    graph = fake_graph(
        FakeEngine(usage=Usage(100, 10)), FakeEngine(usage=Usage(200, 20)), judge=FakeJudge(Action.ESCALATED)
    )
    trail = await asked(graph)
    cheap, frontier = trail.calls
    assert cheap.cost_usd == PRICES["cheap"].cost(Usage(100, 10)) == Decimal("0.00012")
    assert frontier.cost_usd == PRICES["frontier"].cost(Usage(200, 20)) == Decimal("0.0024")
    assert cheap.latency_s >= 0


async def test_the_query_reaches_every_seam_unchanged() -> None:
    cheap, decider = FakeEngine(), FakeDecider()
    await asked(fake_graph(cheap, decider=decider))
    assert decider.queries == cheap.queries == [QUERY]


class Hosted(FakeEngine):
    """A tier that called two deployments; the first failed and was billed all the same."""

    CALLS = (Attempt("east", 502, 0.5, {"prompt_tokens": 1_000_000}), Attempt("west", 200, 1.25))

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        return replace(await super().generate(query, left_s), attempts=self.CALLS)


async def test_calls_that_a_tier_took_are_noted_and_the_failed_one_that_was_billed_is_on_the_bill() -> None:
    trail = await asked(fake_graph(frontier=Hosted()), "frontier")
    assert "frontier called east (502 after 0.50 s), west (200 after 1.25 s)" in trail.notes
    ours = fake_graph().prices["frontier"].cost(USAGE)
    assert sum(call.cost_usd for call in trail.calls) == Decimal(10) + ours


async def test_calls_that_all_failed_are_noted_too() -> None:
    error = SaturatedError("frontier is full", Hosted.CALLS[:1], 3.0)
    trail = Trail()
    with pytest.raises(SaturatedError):
        await answer(fake_graph(frontier=FakeEngine(error=error)), QUERY, "frontier", trail)
    assert "frontier called east (502 after 0.50 s)" in trail.notes
    assert Decimal(10) in [call.cost_usd for call in trail.calls]
