from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router_models.pricing.prices import Price
from router_models.pricing.savings import Quality, savings, would_have_cost
from router_models.types import Call, DecisionRecord, Usage

PRICES = {"cheap": Price(Decimal(1), Decimal(2)), "frontier": Price(Decimal(10), Decimal(20))}
USAGE = Usage(100, 50)


def line(tier: str, what: str, usd: str | None = None, usage: Usage = USAGE) -> Call:
    cost = PRICES[tier].cost(usage) if usd is None else Decimal(usd)
    return Call(tier, usage, 0.1, cost, what)


def record(tier: str, *calls: Call, overhead: tuple[Call, ...] = (), **fields: Any) -> DecisionRecord:
    values: dict[str, Any] = {
        "id": "dec",
        "created_at": "2026-01-02T03:04:05.678+00:00",
        "requested_model": "auto",
        "tier": tier,
        "outcome": "accepted",
        "version": "v/1",
        "status": 200,
        "stream": False,
        "prompt_sha256": "",
        "prompt_chars": 1,
        "route_reason": "",
        "p_cheap_ok": None,
        "distance": None,
        "verdict_reason": None,
        "p_answer_ok": None,
        "calls": calls,
        "overhead": overhead,
        "cost_usd": sum((x.cost_usd for x in (*calls, *overhead)), Decimal(0)),
        "latency_s": 0.2,
    }
    return DecisionRecord(**values | fields)


ROUTING = Call("router", Usage(), 0.01, Decimal("0.00001"), "routing")
CHEAP = record("cheap", line("cheap", "answer"), overhead=(ROUTING,))
ESCALATED = record("frontier", line("cheap", "attempt"), line("frontier", "escalation"), overhead=(ROUTING,))
FAILED = record("frontier", status=503, overhead=(line("frontier", "failed", "0.0005"),))


def test_savings_are_net_of_every_line() -> None:
    found = savings([CHEAP, ESCALATED, FAILED], "frontier", PRICES)
    # cheap: 100 x 1 + 50 x 2 = 200 millionths; frontier: 2,000; two attempts of cheap, one escalation, two routings
    assert found.frontier_usd == Decimal("0.004")
    assert found.spent_usd == Decimal("0.0002") * 2 + Decimal("0.002") + Decimal("0.00002") + Decimal("0.0005")
    assert found.overhead_usd == Decimal("0.0002") + Decimal("0.00002") + Decimal("0.0005")
    assert found.net_usd == found.frontier_usd - found.spent_usd == Decimal("0.00108")
    assert (found.requests, found.estimated) == (3, 1)


def test_escalations_alone_cost_more_than_they_save() -> None:
    assert savings([ESCALATED] * 3, "frontier", PRICES).net_usd < 0


def test_savings_are_never_shown_without_the_quality() -> None:
    assert "quality not measured" in savings([CHEAP], "frontier", PRICES).text()
    assert "9 of 10 graded answers acceptable (90.0%)" in savings([CHEAP], "frontier", PRICES, Quality(9, 10)).text()
    assert "quality not measured" in savings([CHEAP], "frontier", PRICES, Quality(0, 0)).text()
    assert "0 requests" in savings([], "frontier", PRICES).text()


def test_an_answer_that_the_engine_did_not_meter_is_no_basis_for_an_estimate() -> None:
    unmetered = record("cheap", Call("cheap", Usage(), 1.0, Decimal(0), "answer", metered=False))
    assert would_have_cost(unmetered, "frontier", PRICES) is None


@given(st.permutations([CHEAP, ESCALATED, FAILED, CHEAP, ESCALATED]))
def test_the_order_of_requests_changes_nothing(records: list[DecisionRecord]) -> None:
    in_order = savings([CHEAP, ESCALATED, FAILED, CHEAP, ESCALATED], "frontier", PRICES)
    assert savings(records, "frontier", PRICES) == in_order


RATIOS = {"v/1": {"cheap": (2.0, 1.5, 2.5)}}


def test_the_unseen_answer_of_the_last_tier_is_as_long_as_its_answers_to_such_prompts_were() -> None:
    found = savings([CHEAP, ESCALATED], "frontier", PRICES, ratios=RATIOS)
    # 100 prompt tokens at 10; 50 x 2 answer tokens at 20: 3,000 millionths; the escalated answer is billed: 2,000
    assert found.frontier_usd == Decimal("0.003") + Decimal("0.002")
    assert (found.frontier_low_usd, found.frontier_high_usd) == (Decimal("0.0045"), Decimal("0.0055"))
    assert (found.estimated, found.by_ratio) == (1, 1)
    assert "$0.002080 to $0.003080 by what is known of the lengths of both tiers' answers" in found.text()


def test_an_estimate_without_a_ratio_is_said_to_be_one() -> None:
    found = savings([CHEAP], "frontier", PRICES, ratios={"v/2": RATIOS["v/1"]})
    assert found.frontier_usd == savings([CHEAP], "frontier", PRICES).frontier_usd
    assert found.frontier_low_usd is None
    assert "1 of them as if the last tier's answer were as long" in found.text()
