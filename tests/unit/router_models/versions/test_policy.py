import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import DataError
from router_models.types import Action, OperatingPoint, PrefixPoint, Verdict
from router_models.versions.policy import Policy, always, worst

TIERS = ("small", "medium", "large")
probability = st.floats(0, 1)
threshold = st.floats(0, 1) | st.just(math.inf)
points = st.builds(OperatingPoint, threshold, threshold, st.none() | st.floats(0, 1))
policies = st.builds(lambda p: Policy(TIERS, p), st.dictionaries(st.sampled_from(TIERS), points, max_size=3))
estimates = st.dictionaries(st.sampled_from(TIERS[:-1]), probability)


def two(route_at: float = 0.5, accept_at: float = 0.5, abstain_below: float | None = None) -> Policy:
    return Policy(("cheap", "frontier"), {"cheap": OperatingPoint(route_at, accept_at, abstain_below)})


@given(policies, estimates, st.sampled_from(TIERS[:-1]), probability)
def test_raising_an_estimate_never_moves_a_query_to_a_dearer_tier(
    policy: Policy, p_ok: dict[str, float], tier: str, raised: float
) -> None:
    before = policy.decide(p_ok).tier
    after = policy.decide(p_ok | {tier: max(raised, p_ok.get(tier, 0.0))}).tier
    assert TIERS.index(after) <= TIERS.index(before)


@given(policies, estimates, st.sampled_from(TIERS[:-1]))
def test_lowering_a_threshold_never_moves_a_query_to_a_dearer_tier(
    policy: Policy, p_ok: dict[str, float], tier: str
) -> None:
    point = policy.points.get(tier, OperatingPoint(math.inf, 0.5))
    eager = Policy(TIERS, {**policy.points, tier: OperatingPoint(point.route_at / 2, point.accept_at)})
    assert TIERS.index(eager.decide(p_ok).tier) <= TIERS.index(policy.decide(p_ok).tier)


@given(policies, st.sampled_from(TIERS), probability, probability)
def test_raising_a_verdicts_estimate_never_makes_it_worse(policy: Policy, tier: str, a: float, b: float) -> None:
    order = [Action.ABSTAINED, Action.ESCALATED, Action.ACCEPTED]
    low, high = sorted((a, b))
    assert order.index(policy.judge(tier, low).action) <= order.index(policy.judge(tier, high).action)


@given(probability)
def test_a_score_equal_to_its_threshold_passes(p: float) -> None:
    assert two(route_at=p).decide({"cheap": p}).tier == "cheap"
    assert two(accept_at=p).judge("cheap", p).action is Action.ACCEPTED
    assert two(accept_at=0, abstain_below=p).judge("cheap", p).action is Action.ACCEPTED


@given(st.floats(1e-9, 1))
def test_a_score_just_below_its_threshold_does_not(p: float) -> None:
    below = math.nextafter(p, 0)
    assert two(route_at=p).decide({"cheap": below}).tier == "frontier"
    assert two(accept_at=p).judge("cheap", below).action is Action.ESCALATED
    assert two(accept_at=0, abstain_below=p).judge("cheap", below).action is Action.ABSTAINED


def test_infinite_route_threshold_means_always_the_last_tier() -> None:
    assert two(route_at=math.inf).decide({"cheap": 1.0}).tier == "frontier"


@pytest.mark.parametrize("p_ok", [{}, {"cheap": math.nan}])
def test_an_estimate_that_is_missing_or_nan_goes_to_the_last_tier(p_ok: dict[str, float]) -> None:
    assert two(route_at=0.0).decide(p_ok).tier == "frontier"


def test_a_verdict_on_nan_is_never_an_acceptance() -> None:
    assert two(accept_at=0.0).judge("cheap", math.nan).action is Action.ESCALATED


def test_the_cheapest_tier_that_passes_is_chosen() -> None:
    policy = Policy(TIERS, {"small": OperatingPoint(0.9, 0.5), "medium": OperatingPoint(0.6, 0.5)})
    assert policy.decide({"small": 0.95, "medium": 0.99}).tier == "small"
    assert policy.decide({"small": 0.8, "medium": 0.7}).tier == "medium"
    assert policy.decide({"small": 0.8, "medium": 0.5}).tier == "large"


def test_a_decision_carries_its_estimate_reason_and_distance() -> None:
    decision = two().decide({"cheap": 0.7}, distance=0.3)
    assert (decision.p_cheap_ok, decision.distance) == (0.7, 0.3)
    assert "0.700" in decision.reason
    assert "0.500" in decision.reason


def test_the_last_tier_is_never_escalated_from() -> None:
    policy = Policy(("cheap", "frontier"), {"frontier": OperatingPoint(0, 1.0, 0.2)})
    assert policy.judge("frontier", 0.3).action is Action.ACCEPTED
    assert policy.judge("frontier", 0.1).action is Action.ABSTAINED
    assert policy.judges_top


def test_a_tier_without_a_threshold_is_not_judged() -> None:
    verdict = always(("cheap", "frontier")).judge("cheap", 0.0)
    assert verdict.action is Action.ACCEPTED
    assert "not judged" in verdict.reason


def test_forbidding_abstention_leaves_everything_else() -> None:
    policy = Policy(
        ("cheap", "frontier"),
        {"cheap": OperatingPoint(0.1, 0.2, 0.05), "frontier": OperatingPoint(0, 0, 0.5)},
    ).without_abstention()
    assert policy.judge("cheap", 0.01).action is Action.ESCALATED
    assert policy.judge("frontier", 0.01).action is Action.ACCEPTED
    assert not policy.judges_top
    assert policy.points["cheap"] == OperatingPoint(0.1, 0.2)


@given(estimates)
def test_always_is_the_last_tier_whatever_is_estimated(p_ok: dict[str, float]) -> None:
    assert always(TIERS).decide(p_ok).tier == "large"


def test_a_policy_needs_a_tier_and_knows_its_tiers() -> None:
    with pytest.raises(DataError, match="at least one tier"):
        Policy((), {})
    with pytest.raises(DataError, match="nowhere"):
        Policy(("cheap",), {"nowhere": OperatingPoint(0, 0)})


def test_the_reason_says_when_a_prompt_is_far_and_the_tier_stays() -> None:
    for p_ok in (0.7, 0.1):
        near, far = two().decide({"cheap": p_ok}, 0.99), two().decide({"cheap": p_ok}, 1.0)
        assert near.tier == far.tier
        assert far.reason == near.reason + "; unlike the training prompts (distance 1.00)"


@given(policies, estimates)
def test_a_slice_without_proof_goes_to_the_last_tier_whatever_is_estimated(
    policy: Policy, p_ok: dict[str, float]
) -> None:
    decision = policy.decide(p_ok, 1.5, "language=de")
    assert decision.tier == "large"
    assert decision.reason.startswith("the slice language=de is not certified: large; unlike the training prompts")
    first = next((p_ok[tier] for tier in TIERS[:-1] if tier in p_ok), None)
    assert (decision.p_cheap_ok, decision.distance) == (first, 1.5), "what is monitored is measured all the same"


def test_in_a_slice_without_proof_only_the_last_tier_is_believed() -> None:
    policy = Policy(TIERS, {"small": OperatingPoint(0, 0), "large": OperatingPoint(math.inf, -math.inf, 1.0)})
    assert policy.judge_open("large", "domain=law").action is Action.ACCEPTED
    for tier in ("small", "medium"):
        verdict = policy.judge_open(tier, "domain=law")
        assert (verdict.action, verdict.may_serve_on_overload) == (Action.ESCALATED, False)
        assert "domain=law" in verdict.reason


def test_of_answers_shown_together_something_is_promised_only_where_it_is_of_each() -> None:
    sure, unmeasured = Verdict(Action.ACCEPTED, "sure", 0.9), two().judge_unmeasured("cheap", "it calls tools")
    assert (unmeasured.action, unmeasured.p_ok, unmeasured.promised) == (Action.ACCEPTED, None, False)
    for verdicts in ([sure, unmeasured], [unmeasured, sure]):
        both = worst(verdicts)
        assert (both.action, both.promised) == (Action.ACCEPTED, False)
        assert both.reason == "sure; another choice: not judged, accepted as declared: it calls tools"
    assert worst([sure, sure]).promised


def test_a_policy_on_some_of_its_tiers_keeps_their_order_and_points() -> None:
    point = OperatingPoint(0.5, 0.5)
    policy = Policy(TIERS, {"small": point, "medium": point}, {"small": PrefixPoint(4, 0.5)})
    kept = policy.only(("large", "medium"))
    assert (kept.tiers, dict(kept.points), dict(kept.prefixes)) == (("medium", "large"), {"medium": point}, {})
    assert policy.only(("small",)).top == "small"


def test_nothing_is_promised_of_a_cheap_tier_that_the_policy_has_no_threshold_for() -> None:
    policy = always(("cheap", "frontier"))
    assert [policy.judge(tier, 1.0).promised for tier in policy.tiers] == [False, True]
