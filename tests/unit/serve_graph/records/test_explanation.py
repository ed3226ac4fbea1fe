from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from router_models.pricing.prices import Price
from router_models.types import Action, DecisionRecord
from serve_graph.cascade.fakes import PRICES, FakeJudge
from serve_graph.records.explanation import explained, other_branch, sentences

Endpoints = Callable[..., Any]
TIERS = ("cheap", "frontier")


async def asked(endpoint: Endpoints, **fakes: Any) -> tuple[DecisionRecord, dict[str, Any]]:
    at = endpoint(**fakes)
    reply = await at.chat(serve_graph={"task": "sum"})
    async with at.client() as client:
        page = (await client.get(f"/v1/decisions/{reply.headers['x-serve-graph-decision']}")).json()
    return at.record, page


async def test_a_decision_is_explained_in_sentences_and_numbers(endpoint: Endpoints) -> None:
    record, page = await asked(endpoint, judge=FakeJudge(Action.ESCALATED))
    text = "\n".join(page["explanation"])
    for expected in (
        "model 'auto' was requested; frontier answered (escalated, status 200)",
        "Routing: the fake chose cheap.",
        "Verdict: the fake escalated.",
        "Request options: task sum.",
        "Thresholds of cheap: tried from 0.500, accepted from 0.500, abstains below never.",
        "nothing promised of this answer: nothing is certified",
        "lp_mean",
        "Paid: attempt by cheap, 10 + 5 tokens",
        "Paid: escalation by frontier",
        "Paid: routing by router",
        f"Bill: ${record.cost_usd}.",
    ):
        assert expected in text, expected
    assert page["id"] == record.id


async def test_what_was_promised_is_told_as_it_was_certified(endpoint: Endpoints) -> None:
    record, _ = await asked(endpoint)
    for of, told in (
        ("accepted cheap answers", "90.0% of accepted cheap answers certified to be correct."),
        (
            "accepted cheap answers, to be right or no worse than the last tier's",
            "90.0% of accepted cheap answers certified to be right or no worse than the last tier's.",
        ),
    ):
        stored = replace(
            record, evidence={**record.evidence, "promised": 0.9, "promised_of": of, "not_promised": None}
        )
        assert any(line.endswith(told) for line in sentences(stored, None))


async def test_an_accepted_answers_other_way_is_an_estimate_of_the_last_tier(endpoint: Endpoints) -> None:
    _, page = await asked(endpoint)
    other = page["other_branch"]
    # 10 x 10 + 5 x 20 = 200 millionths for the frontier, 20 for what was paid
    assert (other["tier"], Decimal(other["usd"]), other["estimated"]) == ("frontier", Decimal("0.0002"), True)
    assert Decimal(other["difference_usd"]) == Decimal("-0.00018")
    assert "(estimated from the tokens)" in page["explanation"][-1]


async def test_an_escalations_other_way_was_billed(endpoint: Endpoints) -> None:
    record, page = await asked(endpoint, judge=FakeJudge(Action.ESCALATED))
    other = page["other_branch"]
    assert (other["tier"], Decimal(other["usd"]), other["estimated"]) == ("frontier", Decimal("0.0002"), False)
    assert Decimal(other["difference_usd"]) == record.cost_usd - Decimal("0.0002") == Decimal("0.00002")


async def test_a_request_sent_straight_up_might_have_been_answered_cheaply(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat("frontier")
    other = other_branch(at.record, PRICES, TIERS)
    assert other is not None
    assert (other["tier"], Decimal(other["usd"])) == ("cheap", Decimal("0.00002"))


async def test_nothing_is_estimated_where_nothing_was_answered(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat()
    failed = replace(at.record, status=503)
    assert other_branch(failed, PRICES, TIERS) is None
    assert explained(failed, PRICES, TIERS)["other_branch"] is None
    assert other_branch(at.record, {"cheap": Price(Decimal(1), Decimal(1))}, ("cheap",)) is None


async def test_replies_say_nothing_of_it(endpoint: Endpoints) -> None:
    at = endpoint()
    reply = await at.chat()
    assert "threshold" not in reply.text
    assert set(reply.json()["serve_graph"]) == {"decision", "tier", "outcome", "version", "cost_usd"}
