"""The cascade's rules by themselves: no engine, no clock, every sequence of events that can happen."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.types import PREFIX_FINISH, Action, Completion, Decision, OperatingPoint, PrefixPoint, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.next_step import advance, next_step
from serve_graph.cascade.steps import (
    Answered,
    BudgetSpent,
    CascadeEvent,
    Decided,
    Delivery,
    Do,
    FirstPiece,
    Judged,
    PolicyFailed,
    PrefixReady,
    RequestState,
    Rules,
    Started,
    Step,
    StreamMode,
    StreamTerms,
    TierFailed,
)
from serve_graph.errors import (
    CertificateVoidError,
    DeadlineError,
    EngineError,
    EngineRequestError,
    PolicyUnavailableError,
    SaturatedError,
)

LADDERS = (("only",), *[("cheap", "frontier")] * 3, *[("cheap", "middle", "frontier")] * 3)
TIME = st.sampled_from([math.inf] * 8 + [5.0, 0.5, 0.0])
MOST_STEPS = 12


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Any rules for one, two or three tiers."""
    tiers = draw(st.sampled_from(LADDERS))
    below = tiers[:-1]
    points = {tier: OperatingPoint(0.5, 0.5, draw(st.none() | st.just(0.1))) for tier in tiers}
    prefixes = {tier: PrefixPoint(3, 0.5) for tier in draw(st.sets(st.sampled_from(below)) if below else st.just(()))}
    policy = Policy(tiers, points, prefixes)
    budget_s, at_budget = draw(st.none() | st.just(0.2)), draw(st.sampled_from(["commit", "escalate"]))
    terms = StreamTerms(draw(st.sampled_from(list(StreamMode))), budget_s, at_budget)
    return Rules(
        policy,
        policy.top,
        policy.judges_top,
        safe_tier=draw(st.sampled_from(tiers)),
        forced=draw(st.sampled_from([None] * 6 + list(tiers))),
        stream=draw(st.none() | st.just(terms)),
        judged_whole=draw(st.none() | st.just("several choices are judged whole")),
        forbids_abstaining=draw(st.booleans()),
        asks_quality=draw(st.booleans()),
        deadline_s=5.0,
        reserve_s=draw(st.sampled_from([0.0, 1.0])),
    )


@st.composite
def answers_to(draw: st.DrawFn, step: Step, tiers: tuple[str, ...]) -> CascadeEvent:
    """Any event that a step of this kind may end in."""
    left_s = draw(TIME)
    down = PolicyFailed(draw(st.sampled_from([PolicyUnavailableError("down"), CertificateVoidError("over")])), left_s)
    if step.do is Do.ASK_ROUTER:
        return draw(st.sampled_from([Decided(Decision(tier, "so"), left_s) for tier in tiers] * 3 + [down]))
    if step.do is Do.JUDGE:
        every = [Action.ACCEPTED, Action.ESCALATED, Action.ESCALATED, Action.ABSTAINED]
        actions = draw(st.lists(st.sampled_from(every), min_size=1, max_size=2))
        verdicts = [Verdict(action, "so", 0.5, draw(st.booleans())) for action in actions]
        return draw(st.sampled_from([*[Judged(verdicts, left_s)] * 4, down]))
    error = draw(st.sampled_from([EngineError("died"), EngineRequestError("no"), SaturatedError("full")]))
    happened: list[CascadeEvent] = [
        Answered(Completion(f"{step.tier} says")),
        TierFailed(error, draw(st.booleans()), left_s),
    ]
    if step.do is not Do.COMMIT and step.delivery is not Delivery.WHOLE:
        happened.append(FirstPiece())
        if step.commit_policy.prefix_tokens is not None:
            happened.append(PrefixReady(Completion(f"{step.tier} sa", PREFIX_FINISH)))
        if step.commit_policy.budget_s is not None:
            happened.append(BudgetSpent(draw(st.booleans()), left_s))
    return draw(st.sampled_from(happened))


def walk(data: st.DataObject, given_rules: Rules, pinned: str | None = None) -> tuple[list[Step], RequestState]:
    """One request from Started to its end."""
    state = RequestState(pinned=pinned)
    steps = [advance(state, Started(given_rules, data.draw(TIME)))]
    while steps[-1].do not in (Do.REPLY, Do.FAIL):
        if steps[-1].do is Do.READ and len(steps) > 2 and steps[-2].do is Do.READ:
            event: CascadeEvent = Answered(Completion(f"{state.tier} says"))  # a stream says its first word once
        else:
            event = data.draw(answers_to(steps[-1], given_rules.policy.tiers))
        steps.append(advance(state, event))
        assert len(steps) <= MOST_STEPS, [step.do.name for step in steps]
    return steps, state


@settings(max_examples=300, deadline=None)
@given(rules(), st.data())
def test_every_path_ends_and_no_tier_is_called_twice(given_rules: Rules, data: st.DataObject) -> None:
    tiers = given_rules.policy.tiers
    steps, state = walk(data, given_rules, data.draw(st.none() | st.sampled_from(tiers)))
    called = [step.tier for step in steps if step.do is Do.CALL]
    assert len(called) == len(set(called)) <= len(tiers)
    assert [step.do for step in steps].count(Do.ASK_ROUTER) == (given_rules.forced is None)
    assert state.tier == steps[-1].tier
    if steps[-1].do is Do.REPLY:
        assert steps[-1].completion is not None
        assert state.completion is steps[-1].completion
        assert state.completion.text == f"{state.tier} says"
    else:
        assert steps[-1].error is not None
    if given_rules.forced is not None:
        assert called in ([], [given_rules.forced])
        assert state.action is Action.FORCED


@settings(max_examples=300, deadline=None)
@given(rules(), st.data())
def test_a_commit_is_never_undone(given_rules: Rules, data: st.DataObject) -> None:
    steps, state = walk(data, given_rules)
    commits = [i for i, step in enumerate(steps) if step.do is Do.COMMIT]
    assert len(commits) <= 1
    for i in commits:
        assert {step.tier for step in steps[i:]} == {steps[i].tier}
        assert {step.action for step in steps[i:]} == {steps[i].action}
        assert [step.do for step in steps[i + 1 :]] in ([Do.REPLY], [Do.FAIL])
        assert not state.served_on_overload
    if given_rules.stream is None:
        assert commits == []


@settings(max_examples=300, deadline=None)
@given(rules(), st.data())
def test_nothing_below_the_last_tier_is_shown_without_a_verdict_unless_the_terms_say_so(
    given_rules: Rules, data: st.DataObject
) -> None:
    steps, state = walk(data, given_rules)
    shown = next((step for step in steps if step.do in (Do.COMMIT, Do.REPLY)), None)
    terms = given_rules.stream
    unjudged = terms is not None and (terms.mode is StreamMode.ROUTE or terms.at_first_token == "commit")
    if shown is not None and shown.tier != given_rules.top and shown.action is Action.ROUTED:
        assert unjudged, "a routed answer of a tier below the last was not judged"
        assert not given_rules.asks_quality
    if shown is not None and shown.action is Action.ABSTAINED:
        assert not given_rules.forbids_abstaining
    if state.action is Action.ACCEPTED:
        assert state.verdict is not None
        assert state.verdict.action is Action.ACCEPTED
    if state.served_on_overload:
        assert state.action is Action.FALLBACK
        assert state.rejected is not None
        assert state.tier == state.rejected[0]


@settings(max_examples=150, deadline=None)
@given(rules(), st.data())
def test_no_call_begins_without_time(given_rules: Rules, data: st.DataObject) -> None:
    steps, _ = walk(data, given_rules)
    assert all(step.timeout_s > 0 for step in steps if step.do is Do.CALL)


@settings(max_examples=100, deadline=None)
@given(rules(), st.data())
def test_a_step_is_a_function_of_state_and_event(given_rules: Rules, data: st.DataObject) -> None:
    state = RequestState()
    event: CascadeEvent = Started(given_rules)
    for _ in range(3):
        before = (state.tier, state.action, state.decision, state.verdict, list(state.notes), state.step)
        first, again = next_step(state, event), next_step(state, event)
        assert repr(first) == repr(again)  # errors compare by identity
        assert before == (state.tier, state.action, state.decision, state.verdict, state.notes, state.step)
        if advance(state, event).do in (Do.REPLY, Do.FAIL):
            return
        event = data.draw(answers_to(first, given_rules.policy.tiers))


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
