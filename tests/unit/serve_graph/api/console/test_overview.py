from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.types import DecisionRecord
from serve_graph.api.console.overview import traffic_shares
from serve_graph.api.console.savings import labelled_shares, window_savings
from serve_graph.api.console.traffic import MOST_SAMPLED, WINDOWS, over_time, sampled, traffic
from serve_graph.cascade.fakes import fake_context
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.api.console.conftest import NOW, ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
Records = Callable[..., DecisionRecord]
Ago = Callable[..., str]


@pytest.mark.parametrize("window", [*WINDOWS, None])
async def test_an_empty_store_shows_that_there_was_nothing(console: Consoles, window: str | None) -> None:
    page = await (await console()).shown("/console" if window is None else f"/console?window={window}")
    assert "No requests in this window" in page
    assert "NaN" not in page


async def test_a_window_that_there_is_not_is_refused_by_name(console: Consoles) -> None:
    async with (await console()).browser() as browser:
        reply = await browser.get("/console?window=<script>", headers={"authorization": "Bearer boss"})
    assert reply.status_code == 400
    assert "window is one of 1h, 24h, 7d" in reply.text


async def test_money_never_stands_without_what_is_known_of_the_quality(
    console: Consoles, a_record: Records, ago: Ago
) -> None:
    made = await console([a_record("dec-1", created_at=ago(minutes=5))], label_share=1.0)
    assert "no labels yet" in await made.shown("/console")
    label = Feedback("dec-1", "label", "human", ago(minutes=1), 1.0, labeller="ann", by_admin=True)
    await FeedbackTable(made.store).write([label])
    page = await made.shown("/console")
    assert "no labels yet" not in page
    assert "Right, by people and programs" in page
    assert "n = 1 labelled answers" in page


async def test_requests_are_counted_by_tier_outcome_and_status_within_the_window_alone(
    console: Consoles, a_record: Records, ago: Ago
) -> None:
    records = [
        a_record("dec-1", created_at=ago(minutes=1)),
        a_record("dec-2", created_at=ago(minutes=59), outcome="accepted", tier="cheap"),
        a_record("dec-3", created_at=ago(minutes=61), outcome="accepted", tier="cheap"),
        a_record("dec-4", created_at=ago(minutes=3), status=503, tier="none"),
        a_record("dec-5", created_at=ago(days=8)),
    ]
    store = (await console(records)).store
    counted = {name: traffic_shares(await traffic(store, window, NOW)) for name, window in WINDOWS.items()}
    assert {name: one.requests for name, one in counted.items()} == {"1h": 3, "24h": 4, "7d": 4}
    assert counted["1h"].escalated == 1 / 2
    assert (counted["24h"].tried, counted["24h"].failures) == (3, 1)


@pytest.mark.parametrize("name", WINDOWS)
async def test_every_request_of_a_window_is_in_one_bar(
    console: Consoles, a_record: Records, ago: Ago, name: str
) -> None:
    window = WINDOWS[name]
    lengths = [window.length * share for share in (0.0, 0.3, 0.5, 0.999)]
    records = [a_record(f"dec-{at}", created_at=ago(seconds=one.total_seconds())) for at, one in enumerate(lengths)]
    counts = await traffic((await console(records)).store, window, NOW)
    bars = over_time(counts, window, NOW)
    assert sum(sum(values.values()) for _, values in bars) == len(records)
    assert len(bars) in (window.length // window.bar, window.length // window.bar + 1)


async def test_a_count_reads_the_index_and_no_row(console: Consoles) -> None:
    async with (await console()).store.reading() as connection:
        query = (
            "EXPLAIN QUERY PLAN SELECT substr(created_at, 1, 13), tier, outcome, status, version, count(*), "
            "sum(cost_pico_usd) FROM decisions WHERE substr(created_at, 1, 13) >= 'a' AND created_at >= 'a' "
            "GROUP BY substr(created_at, 1, 13), tier, outcome, status, version"
        )
        plan = [row[3] for row in await connection.execute(text(query))]
    assert plan == ["SEARCH decisions USING COVERING INDEX decisions_by_hour (<expr>>?)"]


async def test_counts_and_samples_are_the_same_on_every_kind_of_store(
    made_store_url: str, a_record: Records, ago: Ago
) -> None:
    store = DecisionStore(made_store_url)
    await store.open()
    try:
        many = [
            a_record(f"dec-{at * (2**32 // 2500):08x}{at:024x}", created_at=ago(minutes=at % 50)) for at in range(2500)
        ]
        await store.write_many([*many, a_record("dec-old", created_at=ago(days=9))])
        for window in WINDOWS.values():
            counts = await traffic(store, window, NOW)
            assert (sum(one.n for one in counts), sum(one.usd for one in counts)) == (2500, Decimal("0.655"))
        drawn = await sampled(store, ago(hours=1), 2500)
        assert abs(len(drawn) - MOST_SAMPLED) <= 2
        assert len(await sampled(store, ago(minutes=1), 100)) == 100
    finally:
        await store.close()


def test_what_was_saved_is_exact_where_every_request_is_read_and_has_an_interval_where_not(
    a_record: Records,
) -> None:
    prices = fake_context().prices
    records = [a_record(f"dec-{at}", tier="cheap", outcome="accepted") for at in range(50)]
    cheap = [replace(one, calls=(replace(one.calls[0], what="answer"),)) for one in records]
    spent = sum((line.cost_usd for one in cheap for line in one.bill), Decimal(0))
    whole = window_savings(cheap, 50, spent, "frontier", prices)
    assert whole is not None
    assert (whole.net, whole.as_long, whole.sampled) == (None, 50, 50)
    assert whole.net_usd > 0
    ratios = {cheap[0].version: {"cheap": (1.0, 0.5, 2.0)}}
    measured = window_savings(cheap, 50, spent, "frontier", prices, ratios)
    assert measured is not None
    assert measured.net is not None
    assert measured.net.low < measured.net_usd == pytest.approx(whole.net_usd)
    assert measured.net_usd < measured.net.high
    half = window_savings(cheap, 5000, spent * 100, "frontier", prices)
    assert half is not None
    assert half.net is not None
    assert half.net_usd == pytest.approx(whole.net_usd * 100)
    assert window_savings([], 0, Decimal(0), "frontier", prices) is None


def test_a_judges_labels_stand_beside_peoples_and_never_among_them() -> None:
    said = [("dec-1", "human", 1.0), ("dec-1", "judge:x", 0.0), ("dec-2", "judge:x", 0.0), ("dec-2", "human", 0.0)]
    shares = labelled_shares([Feedback(name, "label", source, "", value) for name, source, value in said])
    assert [(one.who, one.right, one.n) for one in shares] == [("people and programs", 1, 2), ("judge:x", 0, 2)]
    assert shares[0].share.low < 0.5 < shares[0].share.high
    assert shares[1].share.low == 0.0


async def test_version_certificate_alarms_and_safe_mode_lead_the_page(console: Consoles) -> None:
    certificate = Certificate(
        HARM_RISK, 0.05, 0.1, 0.1, 800, 300, 4, 0.03, 0.6, "human", NOW, NOW + timedelta(days=30), {}
    )
    state = {
        "certified": False,
        "void": {"answers": "revoked by labels: 9 of 20"},
        "alarms": [{"kind": "revoked"}],
        "tier_faults": {"frontier": "refuses its key"},
    }
    made = await console(state=state)
    served = replace(made.parts.served(), name="router/7", certificate=certificate, headline=("bound",))
    made.parts = replace(made.parts, served=lambda: served)
    page = await made.shown("/console")
    for said in ("router/7", "harm ≤ 5.0 %", "4 of 300", "n = 800", "revoked by labels: 9 of 20", "refuses its key"):
        assert said in page
    assert "Safe mode: the last tier answers everything" in page


HOSTILE = '"><script>alert(1)</script>'


async def test_what_tiers_and_versions_are_called_is_shown_and_not_obeyed(
    console: Consoles, a_record: Records, ago: Ago
) -> None:
    fields: dict[str, Any] = {"tier": HOSTILE, "version": HOSTILE, "outcome": "<b>x</b>"}
    made = await console([a_record("dec-1", created_at=ago(minutes=5), **fields)], state={"note": HOSTILE})
    page = await made.shown("/console")
    assert page.count("<script") == 1, "our own"
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page
