import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from router_models.types import Action, DecisionRecord
from serve_graph.api.console.explorer import ROWS, DecisionFilter, find_decisions, other_thresholds, score_scales
from serve_graph.errors import RequestError
from serve_graph.records.audit import AuditFilter
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.api.console.conftest import NOW, ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
Records = Callable[..., DecisionRecord]
Ago = Callable[..., str]
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
EVIDENCE = {"thresholds": {"cheap": {"route_at": 0.5, "accept_at": 0.6, "abstain_below": 0.05}}}


async def test_without_decisions_there_is_a_page_that_says_so(console: Consoles) -> None:
    made = await console()
    assert "No decision agrees with this" in await made.shown("/console/decisions")
    async with made.browser() as browser:
        for name in ("dec-x", "%00", "a" * 200, "%3Cscript%3E"):
            reply = await browser.get(f"/console/decisions/{name}", headers={"x-api-key": "boss"})
            assert reply.status_code == 404
            assert "<script>" not in reply.text


async def test_filters_find_what_agrees_with_all_of_them_on_every_kind_of_store(
    made_store_url: str, a_record: Records, ago: Ago
) -> None:
    store = DecisionStore(made_store_url)
    await store.open()
    records = [
        a_record("dec-1", created_at=ago(minutes=1)),
        a_record("dec-2", created_at=ago(minutes=2), tier="cheap", outcome="accepted"),
        a_record("dec-3", created_at=ago(minutes=3), tier="cheap", outcome="accepted", version="other/2"),
        a_record("dec-4", created_at=ago(minutes=4), status=503),
        a_record("dec-5", created_at=ago(minutes=5), status=429),
        a_record("dec-6", created_at=ago(days=2)),
    ]
    wanted: dict[str, dict[str, str]] = {
        "12345": {},
        "123456": {"reach": "7d"},
        "23": {"tier": "cheap"},
        "2": {"outcome": "accepted", "version": "serve-graph-router/1"},
        "4": {"status": "503"},
        "5": {"status": "4xx"},
        "45": {"tier": "frontier", "outcome": "escalated", "before": f"{ago(minutes=1)} dec-1"},
        "": {"version": "'; DROP TABLE decisions; --"},
    }
    try:
        await store.write_many(records)
        for ids, asked in wanted.items():
            found = await find_decisions(store, DecisionFilter.of(asked), NOW)
            assert "".join(row["id"][-1] for row in found) == ids, asked
    finally:
        await store.close()


@pytest.mark.parametrize(
    "asked",
    [{"reach": "1y"}, {"status": "two"}, {"status": "9xx"}, {"before": "x"}, {"tier": "a\0b"}, {"version": "v" * 400}],
)
def test_a_filter_that_cannot_be_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        DecisionFilter.of(asked)


async def test_every_decision_is_on_one_page_of_the_list(console: Consoles, a_record: Records, ago: Ago) -> None:
    records = [a_record(f"dec-{at:03}", created_at=ago(seconds=at // 2)) for at in range(2 * ROWS + 10)]
    made = await console(records)
    path, seen = "/console/decisions", []
    while path:
        page = await made.shown(path)
        seen += re.findall(r'href="/console/decisions/(dec-\d+)"', page)
        older = re.search(r'href="(/console/decisions\?[^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(records)
    assert set(seen) == {record.id for record in records}


async def test_a_decision_is_explained_with_scores_thresholds_bill_and_feedback(
    console: Consoles, a_record: Records, ago: Ago
) -> None:
    made = await console([a_record("dec-1", created_at=ago(minutes=5), evidence=EVIDENCE, key="team")])
    said = Feedback("dec-1", "label", "human", ago(minutes=1), 0.0, labeller="ann", by_admin=True)
    await FeedbackTable(made.store).write([said])
    page = await made.shown("/console/decisions/dec-1")
    for words in (
        "Why frontier answered",
        "Router, before the answer: 0.900, threshold 0.500: cheap is tried",
        "Verifier, of the answer: 0.100, threshold 0.600: it is escalated",
        "Thresholds of cheap: tried from 0.500",
        "cheap accepted from 0.100 or lower",
        "ann",
        "Not kept",
    ):
        assert words in page, words
    entries = await AuditLog(made.store).entries(AuditFilter(action="decisions"))
    assert [(one.actor, one.action, one.target, one.detail) for one in entries] == [
        ("key:boss", "decisions.read", "dec-1", {"key": "team"})
    ]
    assert "Why frontier answered" in await made.shown("/console/decisions?id=dec-1")


async def test_who_lists_decisions_is_written_down_with_the_filters(console: Consoles) -> None:
    made = await console()
    await made.shown("/console/decisions?tier=cheap&reach=7d")
    [entry] = await AuditLog(made.store).entries(AuditFilter(action="decisions.list"))
    assert (entry.actor, entry.detail) == ("key:boss", {"tier": "cheap", "reach": "7d"})


async def test_nothing_that_a_caller_or_a_model_wrote_is_obeyed(
    console: Consoles, a_record: Records, ago: Ago
) -> None:
    fields: dict[str, Any] = {
        "requested_model": HOSTILE,
        "tier": "<script>",
        "outcome": "<b>",
        "version": HOSTILE,
        "route_reason": HOSTILE,
        "verdict_reason": HOSTILE,
        "error": "<i>",
        "metadata": {HOSTILE: HOSTILE},
        "key": "k",
        "evidence": {"answer": HOSTILE, "request_id": HOSTILE, "signals": {HOSTILE: HOSTILE}},
        "prompt": HOSTILE,
    }
    made = await console([a_record("dec-1", created_at=ago(minutes=5), **fields)])
    said = Feedback("dec-1", "text", "human", ago(minutes=1), None, HOSTILE, labeller=HOSTILE[:60], by_admin=True)
    await FeedbackTable(made.store).write([said])
    for path in ("/console/decisions", "/console/decisions/dec-1", f"/console/decisions?tier={HOSTILE}"):
        page = await made.shown(path)
        assert not re.search(r"<(script(?! src=\"/console/static/)|img|b|i)\b", page), path
    assert page.count("&lt;script&gt;") >= 1


def test_other_thresholds_say_what_is_known_and_what_is_estimated(a_record: Records) -> None:
    tiers = ("cheap", "frontier")
    escalated = a_record(evidence=EVIDENCE)
    other = {"usd": "0.0002", "estimated": False}
    alone, delivered = other_thresholds(escalated, other, tiers)
    assert (alone.change, alone.usd, alone.certain) == ("cheap tried from above 0.900", Decimal("0.0002"), True)
    assert (delivered.then, delivered.usd, delivered.certain) == (
        "cheap's answer is delivered",
        escalated.calls[0].cost_usd,
        True,
    )
    accepted = replace(escalated, outcome="accepted", tier="cheap", calls=escalated.calls[:1])
    assert [one.change for one in other_thresholds(accepted, other, tiers)] == [
        "cheap tried from above 0.900",
        "cheap accepted from above 0.100",
    ]
    routed = replace(escalated, outcome="routed", p_cheap_ok=0.2, p_answer_ok=None)
    shared = replace(routed, evidence={**EVIDENCE, "share": 0.3})
    assert other_thresholds(shared, None, tiers) == [], "no threshold of the version decided it"
    assert [scale.threshold for scale in score_scales(shared)] == [None]
    [tried] = other_thresholds(routed, None, tiers)
    assert "is not known" in tried.then
    assert tried.usd is None


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": str(Action.FORCED)},
        {"outcome": str(Action.FALLBACK)},
        {"status": 503},
        {"p_cheap_ok": None},
        {"evidence": {}},
        {"evidence": EVIDENCE | {"uncovered": "length"}},
        {"evidence": {"thresholds": {name: {"route_at": 0.5} for name in ("cheap", "middle")}}},
    ],
)
def test_nothing_is_said_of_thresholds_where_they_did_not_decide(a_record: Records, fields: dict[str, Any]) -> None:
    record = a_record(**{"evidence": EVIDENCE, **fields})
    assert other_thresholds(record, None, ("cheap", "middle", "frontier")) == []


def test_a_threshold_that_nothing_reaches_has_no_place_on_the_scale(a_record: Records) -> None:
    never = {"thresholds": {"cheap": {"route_at": "inf", "accept_at": "inf", "abstain_below": None}}}
    assert [scale.threshold for scale in score_scales(a_record(evidence=never))] == [None, None]
    assert score_scales(a_record(p_cheap_ok=None, p_answer_ok=None)) == []
