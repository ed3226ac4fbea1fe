"""All the rules together: whatever a request, its conversation and the tiers are, no rule picks a cheaper tier."""

import math
from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.pricing.prices import Price
from router_models.types import Call, Decision, DecisionRecord, Query, Usage
from router_models.versions.policy import Policy
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.deadline import Deadline
from serve_graph.cascade.fakes import FakeEngine, fake_context
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import RequestError
from serve_graph.gateway.capabilities import AsleepTiers, CapableTiers, Needs, capabilities_of
from serve_graph.gateway.constraints import RequestConstraints, RoutingContext, request_context, routing_context_for
from serve_graph.gateway.context_length import Room
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.rules import Expectations
from serve_graph.gateway.sessions import Sessions, opening
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus
from tests.fixtures.sampling import examples

LADDERS = (("cheap", "frontier"), ("small", "medium", "large"), ("only",), ("a", "b", "c", "d"))
QUERIES = st.builds(
    lambda chars, fields: replace(Query.from_prompt("x" * chars), parameters=fields),
    st.sampled_from([0, 100, 3_000, 20_000, 400_000]),
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.sampled_from([1, 1_000, 200_000]),
            "tools": st.just([{"type": "function", "function": {"name": "f" * 9_000}}]),
        },
    ),
)
SECONDS = st.none() | st.sampled_from([0.001, 0.1, 1.0, 30.0])


class Remembers(Sessions):
    """Every conversation was answered by one tier a moment ago."""

    def __init__(self, tier: str, query: Query, a_record: DecisionRecord) -> None:
        super().__init__({tier: 60.0}, 1, lambda: 0.0)
        self.note(replace(a_record, session="talk", tier=tier), query)
        assert self._found["talk"].opening == opening(query)


def record_of(tier: str, tokens: int, latency_s: float) -> DecisionRecord:
    call = Call(tier, Usage(tokens, 10), latency_s, Decimal(1), "answer")
    return DecisionRecord(
        "dec-1",
        "",
        "auto",
        tier,
        "routed",
        "v",
        200,
        False,
        "",
        0,
        "",
        None,
        None,
        None,
        None,
        (call,),
        Decimal(1),
        1.0,
    )


def a_context(ladder: tuple[str, ...], prices: list[int]) -> CascadeContext:
    engines = {tier: FakeEngine() for tier in ladder}
    of = {t: Price(Decimal(p), Decimal(p), Decimal(p) / 10) for t, p in zip(ladder, prices, strict=False)}
    return replace(fake_context(), engines=engines, streams=engines, policy=Policy(ladder, {}), prices=of)


@settings(max_examples=examples(100, whole=400))
@given(st.data(), st.sampled_from(LADDERS), QUERIES)
def test_no_rule_ever_picks_a_tier_below_the_routers_choice(
    data: st.DataObject, ladder: tuple[str, ...], query: Query
) -> None:
    tiers = st.sampled_from(ladder)
    contexts = st.none() | st.sampled_from([16, 1_000, 2_048, 32_000, 1_000_000])
    rooms = {tier: Room(data.draw(contexts), data.draw(st.sampled_from([1, 256, 4_096]))) for tier in ladder}
    routing = RoutingContext(
        rooms=rooms if data.draw(st.booleans()) else {},
        sessions=Remembers(tier, query, record_of(tier, data.draw(st.sampled_from([10, 100_000])), 1.0))
        if (tier := data.draw(st.none() | tiers))
        else Sessions({}, 1),
        expectations=Expectations(data.draw(st.sampled_from([1.0, 10.0]))),
        asleep=AsleepTiers(tiers=data.draw(st.frozensets(tiers))),
    )
    for tier in data.draw(st.sets(tiers)):
        latency_s = data.draw(st.sampled_from([0.01, 1.0, 100.0]))
        for _ in range(10):
            routing.latencies.note(record_of(tier, 1, latency_s))
    context = a_context(ladder, data.draw(st.lists(st.sampled_from([1, 10, 1_000]), min_size=4, max_size=4)))
    resolved = ResolvedOptions(latency_budget_s=data.draw(SECONDS), session="talk")
    kinds = st.frozensets(st.sampled_from(["text", "image", "tools"]))
    declared = {tier: data.draw(kinds) for tier in ladder}
    wanted = data.draw(
        st.sampled_from([Needs(), Needs(frozenset({"image"}), ("image",)), Needs(frozenset({"tools"}))])
    )
    constraints = RequestConstraints(
        context,
        resolved,
        routing,
        ladder[-1],
        Deadline(data.draw(SECONDS) or math.inf, 0.0, lambda: 0.0),
        began=data.draw(st.none() | tiers | st.just("elsewhere")),
        capable=data.draw(st.sampled_from([None, CapableTiers(ladder, declared, wanted)])),
        session=routing.sessions.get("talk", query),
    )
    chosen = Decision(data.draw(tiers), "so", data.draw(st.none() | st.sampled_from([0.0, 0.5, 1.0])))
    capable = constraints.capable
    try:
        decision = constraints.apply(chosen, query)
    except RequestError:
        assert capable is not None
        assert all(capable.lacks(tier) for tier in ladder[ladder.index(chosen.tier) :])
        return
    assert capable is None or not capable.lacks(decision.tier)
    assert decision.tier not in routing.asleep.tiers or decision.tier == (capable.able if capable else ladder)[-1]
    assert ladder.index(decision.tier) >= ladder.index(chosen.tier), decision.reason
    assert decision.reason.startswith("so")
    assert (decision.moved is not None) is (decision.tier != chosen.tier)
    if decision.moved is not None:
        assert f"{decision.tier} instead: {decision.moved}" in decision.reason


def test_each_rule_moves_a_request_up_where_it_has_reason_to() -> None:
    """A rule that never runs would pass the property above: each of them is seen to move this request up."""
    ladder = ("cheap", "frontier")
    query = Query.from_prompt("x" * 6_000)
    cheap = Decision("cheap", "so")

    def moved(routing: RoutingContext, deadline_s: float = math.inf, began: str | None = None) -> str:
        deadline = Deadline(deadline_s, 0.0, lambda: 0.0)
        resolved = ResolvedOptions(session="talk")
        shared = a_context(ladder, [1, 1])
        made = request_context(shared, resolved, routing, "frontier", deadline, query=query, began=began)
        assert made.constraints is not None
        decision = made.constraints.apply(cheap, query)
        return decision.reason.partition(" instead: ")[2]

    assert moved(RoutingContext()) == ""
    assert "may not fit" in moved(RoutingContext(rooms={"cheap": Room(2_048, 1), "frontier": Room(2_048, 1)}))
    assert "began the tool loop" in moved(RoutingContext(), began="frontier")
    assert "session stays" in moved(
        RoutingContext(sessions=Remembers("frontier", query, record_of("frontier", 9_000, 1.0)))
    )
    assert "no replica" in moved(RoutingContext(asleep=AsleepTiers(tiers=frozenset({"cheap"}))))
    slow = RoutingContext()
    for tier in ladder * 10:
        slow.latencies.note(record_of(tier, 1, 1.0))
    assert "latency budget" in moved(slow, 1.5)


def test_a_long_prompt_for_the_last_tier_stays_there_with_the_contexts_that_are_the_default() -> None:
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
    tiers = [{"engine": "echo", "name": name, "price": price} for name in ("cheap", "frontier")]
    config = GraphConfig.model_validate({"tiers": tiers})
    served = ServedPolicy.of(None, "none", "nothing", config)
    routing = routing_context_for(config, served, CertificateStatus())
    assert routing.capabilities == capabilities_of(config.tiers)
    made = request_context(a_context(("cheap", "frontier"), [1, 1]), ResolvedOptions(), routing, "frontier")
    assert made.constraints is not None
    decision = made.constraints.apply(
        Decision("frontier", "below every threshold"), Query.from_prompt("word " * 1_000)
    )
    assert decision.tier == "frontier"
    assert "may not fit frontier's 2048" in decision.reason
