import math
from dataclasses import replace
from decimal import Decimal

import pytest

from router_models.types import Action, Attempt, Completion, Query, Usage
from serve_graph.cascade.cascade import answer
from serve_graph.cascade.context import AskedTerms, CascadeContext
from serve_graph.cascade.fakes import FAKE_USAGE, PRICES, FakeDecider, FakeEngine, FakeJudge, fake_context
from serve_graph.cascade.steps import RequestState
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)

QUERY = Query.from_prompt("why?")
DOWN = PolicyUnavailableError("no reply in 2 s")


async def asked(context: CascadeContext, forced: str | None = None) -> RequestState:
    state = RequestState()
    await answer(context, QUERY, forced, state)
    return state


def called(state: RequestState) -> list[str]:
    return [call.tier for call in state.calls]


def text(state: RequestState) -> str:
    assert state.completion is not None
    return state.completion.text


async def test_accepted_cheap_answer_is_the_answer() -> None:
    state = await asked(fake_context())
    assert (state.tier, state.action, text(state), called(state)) == ("cheap", "accepted", "cheap says", ["cheap"])


async def test_rejected_cheap_answer_is_escalated_once() -> None:
    judge = FakeJudge(Action.ESCALATED)
    state = await asked(fake_context(judge=judge))
    assert (state.tier, state.action, text(state)) == ("frontier", "escalated", "frontier says")
    assert called(state) == ["cheap", "frontier"]
    assert len(judge.completions) == 1


async def test_hopeless_cheap_answer_makes_the_graph_abstain_early() -> None:
    state = await asked(fake_context(judge=FakeJudge(Action.ABSTAINED)))
    assert (state.tier, state.action, called(state)) == ("cheap", "abstained", ["cheap"])


async def test_hard_question_goes_straight_to_the_last_tier_unjudged() -> None:
    judge = FakeJudge()
    state = await asked(fake_context(decider=FakeDecider("frontier", 0.1), judge=judge))
    assert (state.tier, state.action, called(state)) == ("frontier", "routed", ["frontier"])
    assert judge.completions == []


@pytest.mark.parametrize("decided", ["cheap", "frontier"])
async def test_last_answer_is_judged_where_the_policy_may_abstain(decided: str) -> None:
    class EscalateThenAbstain(FakeJudge):
        async def judge(self, query, completion, decision):  # type: ignore[no-untyped-def]
            self.action = Action.ESCALATED if decision.tier == "cheap" else Action.ABSTAINED
            return await super().judge(query, completion, decision)

    state = await asked(
        fake_context(decider=FakeDecider(decided), judge=EscalateThenAbstain(), abstain_at_top=0.5),
    )
    assert (state.tier, state.action) == ("frontier", "abstained")
    assert state.verdict is not None
    assert state.verdict.action is Action.ABSTAINED


async def test_last_answer_stands_where_its_judge_is_down() -> None:
    context = fake_context(decider=FakeDecider("frontier"), judge=FakeJudge(error=DOWN), abstain_at_top=0.5)
    state = await asked(context)
    assert (state.tier, state.action, text(state)) == ("frontier", "routed", "frontier says")
    assert "not judged" in state.notes[0]


async def test_router_down_means_the_safe_tier_marked_fallback() -> None:
    state = await asked(fake_context(decider=FakeDecider(error=DOWN)))
    assert (state.tier, state.action, called(state)) == ("frontier", "fallback", ["frontier"])
    assert "router unavailable" in state.notes[0]
    assert state.decision is None


async def test_verifier_down_means_the_safe_tier_marked_fallback() -> None:
    state = await asked(fake_context(judge=FakeJudge(error=DOWN)))
    assert (state.tier, state.action, text(state)) == ("frontier", "fallback", "frontier says")
    assert called(state) == ["cheap", "frontier"]
    assert "verifier unavailable" in state.notes[0]


async def test_verifier_down_and_cheap_declared_safe_keeps_the_answer_there_is() -> None:
    cheap = FakeEngine("cheap says")
    state = await asked(fake_context(cheap, judge=FakeJudge(error=DOWN), safe_tier="cheap"))
    assert (state.tier, state.action, text(state)) == ("cheap", "fallback", "cheap says")
    assert len(cheap.queries) == 1


@pytest.mark.parametrize("error", [EngineError("dead"), EngineTimeoutError("slow"), EngineRequestError("too long")])
async def test_cheap_failing_or_refusing_means_the_safe_tier_marked_fallback(error: EngineError) -> None:
    state = await asked(fake_context(FakeEngine(error=error)))
    assert (state.tier, state.action, text(state)) == ("frontier", "fallback", "frontier says")
    assert called(state) == ["frontier"]
    assert f"cheap failed: {error}" in state.notes


async def test_an_engines_own_words_stay_out_of_the_record() -> None:
    error = EngineRequestError("cannot answer 'my secret'", recordable="its engine answered 400")
    state = await asked(fake_context(FakeEngine(error=error)))
    assert state.notes == ["cheap failed: its engine answered 400"]


async def test_failing_cheap_tier_is_not_its_own_fallback() -> None:
    cheap = FakeEngine(error=EngineError("dead"))
    state = await asked(fake_context(cheap, safe_tier="cheap"))
    assert (state.tier, state.action, len(cheap.queries)) == ("frontier", "fallback", 1)


@pytest.mark.parametrize("error", [EngineError("dead"), EngineRequestError("too long", "context_length_exceeded")])
async def test_last_tier_failing_fails_the_request_as_it_failed(error: EngineError) -> None:
    with pytest.raises(EngineError) as caught:
        await asked(fake_context(frontier=FakeEngine(error=error), decider=FakeDecider("frontier")))
    assert caught.value is error


async def test_last_tier_failing_is_answered_by_another_safe_tier() -> None:
    context = fake_context(
        frontier=FakeEngine(error=EngineError("dead")), decider=FakeDecider("frontier"), safe_tier="cheap"
    )
    state = await asked(context)
    assert (state.tier, state.action, text(state), called(state)) == ("cheap", "fallback", "cheap says", ["cheap"])


async def test_rejected_answer_is_not_given_because_the_last_tier_failed() -> None:
    frontier = FakeEngine(error=EngineError("dead"))
    context = fake_context(frontier=frontier, judge=FakeJudge(Action.ESCALATED), safe_tier="cheap")
    with pytest.raises(EngineError, match="dead"):
        await asked(context)


async def test_request_that_the_last_tier_refuses_goes_nowhere_else() -> None:
    cheap = FakeEngine()
    refusing = FakeEngine(error=EngineRequestError("too long"))
    with pytest.raises(EngineRequestError):
        await asked(fake_context(cheap, refusing, FakeDecider("frontier"), safe_tier="cheap"))
    assert cheap.queries == []


async def test_both_tiers_failing_fails_the_request() -> None:
    dead = EngineError("dead")
    state = RequestState()
    with pytest.raises(EngineError):
        await answer(fake_context(FakeEngine(error=dead), FakeEngine(error=dead)), QUERY, None, state)
    assert (state.tier, state.action, state.calls) == ("frontier", "fallback", [])


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
async def test_forced_tier_answers_without_router_or_verifier(tier: str) -> None:
    decider, judge = FakeDecider(error=DOWN), FakeJudge(error=DOWN)
    state = await asked(fake_context(decider=decider, judge=judge, abstain_at_top=0.5), forced=tier)
    assert (state.tier, state.action, text(state)) == (tier, "forced", f"{tier} says")
    assert decider.queries == []
    assert judge.completions == []


async def test_forced_tier_failing_is_not_answered_by_another() -> None:
    frontier = FakeEngine()
    with pytest.raises(EngineError):
        await asked(fake_context(FakeEngine(error=EngineError("dead")), frontier), forced="cheap")
    assert frontier.queries == []


async def test_every_call_is_on_the_bill_at_its_tiers_price() -> None:
    context = fake_context(
        FakeEngine(usage=Usage(100, 10)), FakeEngine(usage=Usage(200, 20)), judge=FakeJudge(Action.ESCALATED)
    )
    state = await asked(context)
    cheap, frontier = state.calls
    assert cheap.cost_usd == PRICES["cheap"].cost(Usage(100, 10)) == Decimal("0.00012")
    assert frontier.cost_usd == PRICES["frontier"].cost(Usage(200, 20)) == Decimal("0.0024")
    assert cheap.latency_s >= 0


async def test_the_query_reaches_every_seam_unchanged() -> None:
    cheap, decider = FakeEngine(), FakeDecider()
    await asked(fake_context(cheap, decider=decider))
    assert decider.queries == cheap.queries == [QUERY]


class Hosted(FakeEngine):
    """A tier that called two deployments; the first failed and was billed all the same."""

    CALLS = (Attempt("east", 502, 0.5, {"prompt_tokens": 1_000_000}), Attempt("west", 200, 1.25))

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        return replace(await super().generate(query, left_s), attempts=self.CALLS)


async def test_calls_that_a_tier_took_are_noted_and_the_failed_one_that_was_billed_is_on_the_bill() -> None:
    state = await asked(fake_context(frontier=Hosted()), "frontier")
    assert "frontier called east (502 after 0.50 s), west (200 after 1.25 s)" in state.notes
    ours = fake_context().prices["frontier"].cost(FAKE_USAGE)
    assert sum(call.cost_usd for call in state.calls) == Decimal(10) + ours


async def test_calls_that_all_failed_are_noted_too() -> None:
    error = SaturatedError("frontier is full", Hosted.CALLS[:1], 3.0)
    state = RequestState()
    with pytest.raises(SaturatedError):
        await answer(fake_context(frontier=FakeEngine(error=error)), QUERY, "frontier", state)
    assert "frontier called east (502 after 0.50 s)" in state.notes
    assert Decimal(10) in [call.cost_usd for call in state.calls]


async def test_an_answer_is_asked_about_before_its_verdict_and_each_call_is_on_the_bill() -> None:
    cheap, frontier, judge = FakeEngine("cheap says"), FakeEngine("no"), FakeJudge()
    terms = AskedTerms(
        {"cheap": ("agreement", "last_tier_verdict")}, "frontier", {"cheap": cheap, "frontier": frontier}
    )
    context, state = replace(fake_context(cheap, frontier, judge=judge), asked=terms), RequestState()
    await answer(context, Query.from_prompt("what?"), None, state)
    assert judge.completions[0].signals == {"agreement": 3.5 / 4} == state.signals
    assert sorted((line.tier, line.what) for line in state.overhead if line.cost_usd) == [
        ("cheap", "agreement"), ("cheap", "agreement"), ("cheap", "agreement"), ("frontier", "last_tier_verdict"),
    ]  # fmt: skip
    assert state.notes == ["no last_tier_verdict: the reply of frontier does not say"]


async def test_a_tier_that_fails_to_be_asked_costs_the_signal_and_not_the_request() -> None:
    broken, judge = FakeEngine(error=EngineError("the engine died", recordable="it died")), FakeJudge()
    terms = AskedTerms({"cheap": ("p_true",)}, "frontier", {"cheap": broken})
    context, state = replace(fake_context(judge=judge), asked=terms), RequestState()
    assert (await answer(context, Query.from_prompt("what?"), None, state)).text == "cheap says"
    assert judge.completions[0].signals == {}
    assert state.notes == ["no p_true: cheap failed: it died"]


async def test_what_may_not_be_asked_about_is_judged_as_it_is() -> None:
    silent, judge = FakeEngine("  "), FakeJudge()
    terms = AskedTerms({"cheap": ("p_true",)}, "frontier", {"cheap": silent})
    state = RequestState()
    await answer(replace(fake_context(silent, judge=judge), asked=terms), Query.from_prompt("what?"), None, state)
    assert len(silent.queries) == 1
    assert judge.completions[0].signals == {}
