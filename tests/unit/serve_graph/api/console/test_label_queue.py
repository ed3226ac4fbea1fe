import html
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.types import DecisionRecord
from serve_graph.api.console.label_queue import label_need
from serve_graph.learning.labelled import drawn_order, up_for_labelling
from serve_graph.records.audit import AuditFilter
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.feedback import Feedback, FeedbackTable
from tests.unit.serve_graph.api.console.conftest import NOW, ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
Records = Callable[..., DecisionRecord]
Ago = Callable[..., str]
CERTIFICATE = Certificate(
    HARM_RISK, 0.05, 0.1, 0.1, 800, 300, 4, 0.03, 0.6, "human", NOW, NOW + timedelta(days=30), {}
)


@pytest.fixture
def kept(a_record: Records, ago: Ago) -> Callable[..., DecisionRecord]:
    """A decision whose answer was promised and kept."""

    def make(name: str, **fields: Any) -> DecisionRecord:
        evidence = {"promised": 0.95, "promised_of": "accepted cheap answers", "answer": f"answer of {name}"}
        own = {"tier": "planted-tier", "outcome": "accepted", "version": "fake/1", "prompt": f"prompt of {name}"}
        given = {"created_at": ago(hours=1), **own, **fields}
        return a_record(name, **{**given, "evidence": evidence | given.get("evidence", {})})

    return make


class Labeller:
    """A person at the page: reads what is shown, presses a key."""

    def __init__(self, made: ConsoleAt, browser: httpx.AsyncClient) -> None:
        self.made, self.browser = made, browser
        self.page = ""
        self.way = "/console/labels?labeller=ann"

    async def look(self) -> str:
        self.page = (await self.browser.get(self.way)).text
        return self.shown

    @property
    def shown(self) -> str:
        found = re.search(r"answer of (dec-\w+)", self.page)
        return found[1] if found else ""

    async def press(self, verdict: str) -> str:
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.page.split("<main")[1]))
        fields = {name: html.unescape(value) for name, value in fields.items()}
        sent = await self.browser.post("/console/labels", data=fields | {"verdict": verdict})
        assert sent.status_code == 303, sent.text
        await FeedbackTable(self.made.store).write(self.made.written[-1:])
        self.way = sent.headers["location"]
        return await self.look()


async def test_answers_come_one_by_one_in_the_order_of_the_terminal_and_labels_are_a_persons(
    console: Consoles, kept: Any
) -> None:
    names = sorted((f"dec-{at}" for at in range(4)), key=drawn_order)
    made = await console([kept(name) for name in names], label_share=1.0, keeps_answers=True)
    async with made.browser() as browser:
        await made.sign_in(browser)
        ann = Labeller(made, browser)
        assert await ann.look() == names[0]
        assert await ann.press("right") == names[1]
        assert await ann.press("wrong") == names[2]
        assert await ann.press("undo") == names[1]
        assert await ann.press("right") == names[2]
        assert await ann.press("skip") == names[3]
        assert await ann.press("wrong") == ""
        assert "Begin again" in ann.page
        ann.way = "/console/labels?labeller=ann"
        assert await ann.look() == names[2]
        ann.way = "/console/labels?labeller=bob"
        assert await ann.look() == names[0]
    labels = await FeedbackTable(made.store).labels_on(names)
    assert {
        name: [(one.value, one.labeller, one.key, one.source) for one in said] for name, said in labels.items()
    } == {
        names[0]: [(1.0, "ann", "boss", "human")],
        names[1]: [(1.0, "ann", "boss", "human")],
        names[3]: [(0.0, "ann", "boss", "human")],
    }
    read = await AuditLog(made.store).entries(AuditFilter(action="decisions.read"))
    assert {entry.target for entry in read} == set(names)
    assert {entry.detail["for"] for entry in read} == {"labelling"}


async def test_the_page_does_not_tell_which_tier_or_what_the_scores_said(console: Consoles, kept: Any) -> None:
    made = await console([kept("dec-1", p_answer_ok=0.8765)], label_share=1.0)
    page = await made.shown("/console/labels?labeller=ann")
    assert "answer of dec-1" in page
    assert not any(word in page for word in ("planted-tier", "0.8765", "accepted cheap", "frontier"))


async def test_shown_is_what_was_promised_kept_and_drawn_and_nothing_else(
    console: Consoles, kept: Any, ago: Ago
) -> None:
    drawn = [name for name in (f"dec-{at}" for at in range(400)) if up_for_labelling(name, 0.05)]
    others = [name for name in (f"dec-{at}" for at in range(50)) if name not in drawn]
    records = [
        kept(drawn[0], evidence={"promised": None}),
        kept(drawn[1], evidence={"promised_of": "answers served on overload"}),
        kept(drawn[2], evidence={"answer": ""}),
        kept(drawn[3], prompt=None),
        kept(drawn[4], status=503),
        kept(drawn[5], outcome="forced"),
        kept(drawn[6], created_at=ago(days=31)),
        kept(drawn[7]),
        *map(kept, others),
    ]
    made = await console(records, label_share=0.05)
    assert f"answer of {drawn[7]}" in await made.shown("/console/labels?labeller=ann")
    await FeedbackTable(made.store).write(
        [Feedback(drawn[7], "label", "human", ago(), 1.0, labeller="ann", by_admin=True)]
    )
    assert "No answer is left" in await made.shown("/console/labels?labeller=ann")


async def test_a_label_of_an_answer_that_somebody_picked_is_not_taken(console: Consoles, kept: Any) -> None:
    made = await console([kept("dec-1"), kept("dec-2", evidence={"promised": None})], label_share=1e-9)
    async with made.browser() as browser:
        await made.sign_in(browser)
        token = made.parts.sessions.form_token(browser.cookies[made.parts.sessions.cookie_name])
        fields = {"form": token, "labeller": "ann", "verdict": "right", "decision": "dec-1"}
        for change in ({}, {"verdict": "undo", "last": "dec-1"}, {"decision": "dec-2"}, {"decision": ""}):
            assert (await browser.post("/console/labels", data=fields | change)).status_code == 404, change
        for change in ({"labeller": " "}, {"labeller": "a" * 65}):
            assert (await browser.post("/console/labels", data=fields | change)).status_code == 400, change
        assert (await browser.post("/console/labels", data=fields | {"form": "x"})).status_code == 403
    assert made.written == []


async def test_without_kept_answers_or_a_certificate_the_page_says_so(console: Consoles) -> None:
    page = await (await console()).shown("/console/labels")
    assert "Answers are not kept" in page
    assert "Nothing is certified" in page


async def test_labels_that_the_next_certificate_needs_are_counted_down(console: Consoles, kept: Any, ago: Ago) -> None:
    made = await console([kept(f"dec-{at}") for at in range(3)], label_share=1.0)
    served = replace(made.parts.served(), certificate=CERTIFICATE)
    made.parts = replace(made.parts, served=lambda: served)
    before = await label_need(made.store, "fake/1", CERTIFICATE)
    assert before.still == before.needed
    assert before.needed is not None
    said = [
        Feedback("dec-0", "label", "human", ago(), 1.0, labeller="ann", by_admin=True),
        Feedback("dec-1", "label", "human", ago(), 0.0, labeller="ann", by_admin=True),
        Feedback("dec-1", "label", "judge:x", ago(), 1.0, labeller="judge:x", by_admin=True),
    ]
    await FeedbackTable(made.store).write(said)
    after = await label_need(made.store, "fake/1", CERTIFICATE)
    assert (after.right, after.wrong, after.still) == (1, 1, before.needed - 2)
    assert f"{after.still:,}" in await made.shown("/console/labels")
    hopeless = await label_need(made.store, "fake/1", replace(CERTIFICATE, errors=60))
    assert (hopeless.needed, hopeless.still) == (None, None)


async def test_markup_in_prompts_answers_and_names_is_shown(console: Consoles, kept: Any) -> None:
    hostile = "</pre><script>alert(1)</script>"
    made = await console([kept("dec-1", prompt=hostile, evidence={"answer": hostile})], label_share=1.0)
    page = await made.shown(f"/console/labels?labeller={hostile}&last={hostile}")
    assert page.count("<script") == 1
    assert '<script src="/console/static/console.js?v=' in page
