"""The cascade's rules by themselves: no engine, no clock, every sequence of events that can happen."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings

from router_models.types import Action, Completion, Decision, OperatingPoint, Usage, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.next_step import advance, next_step
from serve_graph.cascade.steps import (
    Answered,
    CascadeEvent,
    Decided,
    Delivery,
    Do,
    Judged,
    PolicyFailed,
    RequestState,
    Rules,
    Started,
    Step,
    StreamMode,
    StreamTerms,
    TierFailed,
)
from serve_graph.errors import DeadlineError, EngineError, EngineRequestError, PolicyUnavailableError
from tests.fixtures.cascade_paths import SOME_TIME, every_path, rules


@settings(max_examples=40, deadline=None)
@given(rules())
def test_every_path_ends_and_no_tier_is_called_twice(rules: Rules) -> None:
    for steps, state in every_path(rules):
        called = [step.tier for step in steps if step.do is Do.CALL]
        assert len(called) == len(set(called)), called
        is_picked = state.action is Action.ENSEMBLE
        assert [step.do for step in steps].count(Do.ASK_ROUTER) == (rules.forced is None and not is_picked)
        asks_both = rules.asks_both and rules.forced is None and not rules.asks_quality
        assert [step.do for step in steps].count(Do.ASK_BOTH) == asks_both
        assert state.tier == steps[-1].tier
        if steps[-1].do is Do.REPLY:
            assert state.completion is steps[-1].completion is not None
            assert state.completion.text == f"{state.tier} says"
        else:
            assert steps[-1].error is not None
        if rules.forced is not None:
            assert (called, state.action) == ([rules.forced], Action.FORCED)


@settings(max_examples=40, deadline=None)
@given(rules())
def test_a_commit_is_never_undone(rules: Rules) -> None:
    for steps, state in every_path(rules):
        commits = [i for i, step in enumerate(steps) if step.do is Do.COMMIT]
        assert len(commits) <= (rules.stream is not None)
        for i in commits:
            assert {(step.tier, step.action) for step in steps[i:]} == {(steps[i].tier, steps[i].action)}
            assert [step.do for step in steps[i + 1 :]] in ([Do.REPLY], [Do.FAIL])
            assert not state.served_on_overload


@settings(max_examples=40, deadline=None)
@given(rules())
def test_nothing_below_the_last_tier_is_shown_without_a_verdict_unless_the_terms_say_so(rules: Rules) -> None:
    terms = rules.stream
    unjudged = terms is not None and (terms.mode is StreamMode.ROUTE or terms.at_first_token == "commit")
    for steps, state in every_path(rules):
        shown = next((step for step in steps if step.do in (Do.COMMIT, Do.REPLY)), None)
        if shown is not None and shown.tier != rules.top and shown.action is Action.ROUTED:
            assert state.decision is not None
            pre_routed = rules.policy.pre_routes(shown.tier)
            assert unjudged or pre_routed or not state.decision.promised, "a tier below the last was not judged"
            assert pre_routed or not rules.asks_quality
            assert not (rules.shaped and shown.do is Do.COMMIT and (pre_routed or not state.decision.promised))
        if state.action is Action.ABSTAINED:
            assert not rules.forbids_abstaining
        if state.action is Action.ACCEPTED:
            assert state.verdict is not None
            assert state.verdict.action is Action.ACCEPTED
            assert state.verdict.promised or not rules.asks_quality or state.tier == rules.top
        if state.served_on_overload:
            assert state.rejected is not None
            assert (state.tier, state.action) == (state.rejected[0], Action.FALLBACK)


@settings(max_examples=40, deadline=None)
@given(rules())
def test_no_call_begins_without_time(rules: Rules) -> None:
    for steps, _ in every_path(rules):
        assert all(step.timeout_s > 0 for step in steps if step.do is Do.CALL)


@settings(max_examples=20, deadline=None)
@given(rules())
def test_a_step_is_a_function_of_state_and_event(rules: Rules) -> None:
    for _, state in every_path(rules):
        assert state.step is not None
        last, before = state.step, repr(state)
        state.step = replace(last, do=Do.ASK_ROUTER)
        event = Decided(Decision(rules.top, "so"), SOME_TIME)
        assert repr(next_step(state, event)) == repr(next_step(state, event))
        state.step = last
        assert repr(state) == before


@settings(max_examples=40, deadline=None)
@given(rules())
def test_what_is_pre_routed_is_answered_by_its_tier_alone_unless_its_shape_is_broken(rules: Rules) -> None:
    for steps, state in every_path(rules):
        if state.decision is None or not state.decision.promised or not rules.policy.pre_routes(state.decision.tier):
            continue
        if rules.forced is None and steps[1].do is Do.CALL and steps[1].tier == state.decision.tier:
            assert not any(step.do is Do.JUDGE and step.tier == state.decision.tier for step in steps)
            if state.action is Action.ESCALATED:
                assert state.verdict is not None
                assert state.verdict.reason == "no JSON"


@settings(max_examples=20, deadline=None)
@given(rules())
def test_where_nothing_is_picked_the_request_goes_any_way_that_it_would_have_gone(rules: Rules) -> None:
    alone = replace(rules, asks_both=False, forced=None, asks_quality=False)
    whole = replace(alone, stream=None)
    ways = {False: ways_of(alone), True: ways_of(whole)}
    found: dict[bool, set[tuple[object, ...]]] = {False: set(), True: set()}
    for steps, state in every_path(replace(alone, asks_both=True)):
        if state.action is Action.ENSEMBLE:
            assert [step.do for step in steps] == [Do.ASK_BOTH, Do.REPLY]
            assert state.layer == "ensemble"
        else:
            assert "not an ensemble: " in state.notes[0]
            found["judge" in state.notes[0]].add(tuple((one.do, one.tier, one.action) for one in steps[1:]))
    assert found == ways, "as a stream where nothing is known, whole where the answers are there"


def test_a_chain_whose_verifier_goes_away_does_not_ask_a_tier_again_that_was_rejected() -> None:
    policy = Policy(("cheap", "middle", "frontier"), {}, chain=True)
    chain = two_tiers(policy=policy, safe_tier="cheap")
    asked = Decided(Decision("cheap", "so", then=(("middle", 0.6),)))
    rejected = Judged([Verdict(Action.ESCALATED, "so", 0.1)])
    down = PolicyFailed(PolicyUnavailableError("down"))
    step = after(Started(chain), asked, SAID, rejected, Answered(Completion("middle says")), down)
    assert (step.do, step.tier, step.action) == (Do.CALL, "frontier", Action.FALLBACK)


def ways_of(rules: Rules) -> set[tuple[object, ...]]:
    """What is done in every way that a request may go, by its steps."""
    return {tuple((one.do, one.tier, one.action) for one in steps) for steps, _ in every_path(rules)}


def two_tiers(**fields: object) -> Rules:
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)})
    values: dict[str, object] = {"policy": policy, "top": "frontier", "judges_top": False, "safe_tier": "frontier"}
    return Rules(**values | fields)  # type: ignore[arg-type]


def after(*events: CascadeEvent, state: RequestState | None = None) -> Step:
    state = state or RequestState()
    for event in events[:-1]:
        advance(state, event)
    return advance(state, events[-1])


CHEAP = Decided(Decision("cheap", "so"))
SAID = Answered(Completion("cheap says"))
ABSTAIN = Judged([Verdict(Action.ABSTAINED, "hopeless", 0.01)])


@pytest.mark.parametrize(
    ("forbids", "do", "action"), [(False, Do.REPLY, Action.ABSTAINED), (True, Do.CALL, Action.ESCALATED)]
)
def test_forbidden_abstention_below_the_last_tier_is_an_escalation(forbids: bool, do: Do, action: Action) -> None:
    step = after(Started(two_tiers(forbids_abstaining=forbids)), CHEAP, SAID, ABSTAIN)
    assert (step.do, step.action) == (do, action)
    assert step.verdict is not None
    assert ("; forbidden: escalated" in step.verdict.reason) is forbids


def test_forbidden_abstention_at_the_last_tier_is_no_abstention() -> None:
    frontier = Decided(Decision("frontier", "so"))
    step = after(Started(two_tiers(judges_top=True, forbids_abstaining=True)), frontier, SAID, ABSTAIN)
    assert (step.do, step.action, step.verdict) == (Do.REPLY, Action.ROUTED, None)


def test_a_decision_that_nothing_is_promised_of_is_answered_without_a_verdict_but_not_for_a_quality_floor() -> None:
    unmeasured = Decided(Decision("cheap", "so", promised=False))
    step = after(Started(two_tiers()), unmeasured)
    assert (step.do, step.tier, step.on_trial) == (Do.CALL, "cheap", False)
    assert after(Started(two_tiers()), unmeasured, SAID).do is Do.REPLY
    step = after(Started(two_tiers(asks_quality=True)), unmeasured)
    assert (step.tier, step.decision and step.decision.reason) == ("frontier", "so; a quality floor: frontier")


@pytest.mark.parametrize("promised", [True, False])
def test_a_request_that_a_tier_below_the_last_refuses_is_tried_above_unless_that_answered_for_good(
    promised: bool,
) -> None:
    refused = TierFailed(EngineRequestError("I see no images"))
    cheap = Decided(Decision("cheap", "so", promised=promised))
    step = after(Started(two_tiers()), cheap, refused)
    assert (step.do, step.tier, step.action) == (Do.CALL, "frontier", Action.FALLBACK)
    frontier = Decided(Decision("frontier", "so", promised=promised))
    assert after(Started(two_tiers()), frontier, refused).do is Do.FAIL


def test_a_verdict_that_promises_nothing_is_none_for_a_quality_floor() -> None:
    call = Judged([Verdict(Action.ACCEPTED, "a call", promised=False)])
    for asks_quality, tier, action in ((False, "cheap", Action.ACCEPTED), (True, "frontier", Action.ESCALATED)):
        step = after(Started(two_tiers(asks_quality=asks_quality)), CHEAP, SAID, call)
        assert (step.tier, step.action) == (tier, action)


def test_without_time_left_the_escalation_is_a_deadline_error() -> None:
    escalate = Judged([Verdict(Action.ESCALATED, "so", 0.1)], left_s=0.0)
    step = after(Started(two_tiers(deadline_s=2.0), 2.0), Decided(Decision("cheap", "so"), 2.0), SAID, escalate)
    assert (step.do, step.tier, step.action) == (Do.FAIL, "frontier", Action.ESCALATED)
    assert isinstance(step.error, DeadlineError)
    assert "the deadline of 2 s" in str(step.error)


def test_a_try_leaves_the_last_tier_what_it_usually_takes_where_there_is_that_much() -> None:
    for left_s, timeout_s in ((5.0, 4.0), (0.5, 0.5)):
        step = after(Started(two_tiers(reserve_s=1.0)), Decided(Decision("cheap", "so"), left_s))
        assert step.timeout_s == timeout_s


def test_an_event_that_does_not_answer_the_last_step_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="Judged does not answer ASK_ROUTER"):
        after(Started(two_tiers()), ABSTAIN)
    with pytest.raises(TypeError, match="begins with Started"):
        after(CHEAP)


@pytest.mark.parametrize(("tokens", "action"), [(40, Action.ACCEPTED), (41, Action.ESCALATED)])
def test_an_answer_longer_than_any_that_was_certified_is_not_accepted(tokens: int, action: Action) -> None:
    said = Answered(Completion("cheap says", usage=Usage(9, tokens)))
    accepted = Judged([Verdict(Action.ACCEPTED, "sure", 0.99)])
    step = after(Started(two_tiers(longest_answer=40)), CHEAP, said, accepted)
    assert (step.action, step.rejected) == (action, None)
    assert after(Started(two_tiers()), CHEAP, said, accepted).action is Action.ACCEPTED
    last = after(Started(two_tiers(longest_answer=4)), Decided(Decision("frontier", "so")), said)
    assert (last.do, last.action) == (Do.REPLY, Action.ROUTED)


PRE_ROUTED = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, -math.inf)})


@pytest.mark.parametrize("mode", [None, *StreamMode])
def test_a_pre_routed_answer_is_shown_as_it_comes_whatever_the_mode_of_its_stream(mode: StreamMode | None) -> None:
    terms = None if mode is None else StreamTerms(mode, first_token_s=0.01, at_first_token="escalate")
    call = after(Started(two_tiers(policy=PRE_ROUTED, stream=terms)), CHEAP)
    assert (call.do, call.tier, call.on_trial, call.checked) == (Do.CALL, "cheap", False, False)
    assert call.delivery is (Delivery.WHOLE if mode is None else Delivery.LIVE)


@pytest.mark.parametrize("decision", [CHEAP, Decided(Decision("cheap", "a share", promised=False))])
def test_an_answer_that_breaks_its_declared_shape_is_sent_on_where_nobody_judges_it(decision: Decided) -> None:
    """Pre-routed, or below a share of requests: its stream waits for the whole answer."""
    policy = PRE_ROUTED if decision is CHEAP else two_tiers().policy
    rules = two_tiers(policy=policy, shaped=True, stream=StreamTerms())
    state = RequestState()
    call = after(Started(rules), decision, state=state)
    assert (call.checked, call.delivery) == (True, Delivery.WHOLE)
    broken = after(Answered(Completion("{"), "it is no JSON", SOME_TIME), state=state)
    assert (broken.do, broken.tier, broken.action) == (Do.CALL, "frontier", Action.ESCALATED)
    assert state.verdict == Verdict(Action.ESCALATED, "it is no JSON")
    assert state.tried == Completion("{")
    kept = after(Started(rules), decision, SAID)
    assert (kept.do, kept.tier, kept.action) == (Do.REPLY, "cheap", Action.ROUTED)


def test_a_pre_routed_answer_longer_than_any_that_was_certified_is_sent_on() -> None:
    rules = two_tiers(policy=PRE_ROUTED, longest_answer=5)
    long, short = (Answered(Completion("so", usage=Usage(9, tokens))) for tokens in (6, 5))
    assert after(Started(rules), CHEAP, short).do is Do.REPLY
    step = after(Started(rules), CHEAP, long)
    assert (step.do, step.tier, step.action) == (Do.CALL, "frontier", Action.ESCALATED)


def test_the_last_tier_may_take_what_a_pre_routed_tier_refuses() -> None:
    step = after(Started(two_tiers(policy=PRE_ROUTED)), CHEAP, TierFailed(EngineRequestError("no")))
    assert (step.do, step.tier, step.action) == (Do.CALL, "frontier", Action.FALLBACK)


def test_a_chain_whose_last_tier_fails_does_not_show_what_it_has_rejected() -> None:
    policy = Policy(("cheap", "middle", "frontier"), {}, chain=True)
    chain = two_tiers(policy=policy, safe_tier="middle")
    asked = Decided(Decision("cheap", "so", then=(("middle", 0.6),)))
    rejected = Judged([Verdict(Action.ESCALATED, "so", 0.1)])
    middle = Answered(Completion("middle says"))
    step = after(Started(chain), asked, SAID, rejected, middle, rejected, TierFailed(EngineError("died")))
    assert (step.do, step.tier) == (Do.FAIL, "frontier")
