"""`POST /v1/feedback`: who may say what of which decision, and what is kept of it."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from router_models.types import DecisionRecord
from serve_graph.access.caller import Caller
from serve_graph.api.feedback import FeedbackRequest
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError, NotFoundError, StoreUnavailableError
from serve_graph.learning.feedback import FeedbackIntake, GivenFeedback
from serve_graph.records.feedback import Feedback

Endpoints = Callable[..., Any]
Records = Callable[..., DecisionRecord]
PATH = "/v1/feedback"
UP = {"kind": "thumbs", "value": True}


async def given(at: Any, body: Any, key: str | None = None, **headers: str) -> Any:
    shown = {} if key is None else {"authorization": f"Bearer {key}"}
    async with at.client() as client:
        content = {"content": body} if isinstance(body, str | bytes) else {"json": body}
        return await client.post(PATH, **content, headers=shown | headers)


async def decided(at: Any, key: str | None = None) -> str:
    """The id of a decision of a key."""
    shown = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    async with at.client() as client:
        reply = await client.post("/v1/chat/completions", json=body, headers=shown)
    return str(reply.headers["x-serve-graph-decision"])


@pytest.mark.parametrize(
    ("kind", "value", "number"),
    [
        ("thumbs", True, 1.0),
        ("thumbs", "down", 0.0),
        ("label", "wrong", 0.0),
        ("label", True, 1.0),
        ("score", 0.25, 0.25),
        ("score", 1, 1.0),
        ("correction", "It is mice.", None),
        ("text", "well said", None),
    ],
)
async def test_each_kind_of_feedback_is_taken_with_its_value(
    endpoint: Endpoints, kind: str, value: Any, number: float | None
) -> None:
    at = endpoint(keep_prompt=str.upper)
    decision = await decided(at)
    reply = await given(at, {"decision": decision, "kind": kind, "value": value})
    text = {"text_kept": True} if number is None else {}
    [kept] = at.feedback
    assert reply.status_code == 200
    assert reply.json() == {"id": kept.id, "object": "feedback", "decision": decision, "kind": kind} | text
    assert (kept.value, kept.text, kept.source) == (number, value.upper() if number is None else None, "human")


async def test_a_text_is_not_kept_where_prompts_are_not(endpoint: Endpoints) -> None:
    at = endpoint()
    body = {"decision": await decided(at), "kind": "correction", "value": "secret"}
    assert (await given(at, body)).json()["text_kept"] is False
    assert at.feedback[0].text is None


@pytest.mark.parametrize("prefix", ["dec-", "chatcmpl-", "cmpl-", "resp_", "msg_"])
async def test_a_reply_is_named_by_its_own_id_in_every_format(endpoint: Endpoints, prefix: str) -> None:
    at = endpoint()
    decision = await decided(at)
    reply = await given(at, {"decision": prefix + decision.removeprefix("dec-"), **UP})
    assert reply.json()["decision"] == decision


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"decision": None}, "decision"),
        ({"decision": ""}, "decision"),
        ({"decision": "dec-\u0000"}, "decision"),
        ({"decision": "x" * 200}, "decision"),
        ({"kind": "stars"}, "kind"),
        ({"kind": None}, "kind"),
        ({"value": 1}, "value"),
        ({"value": "maybe"}, "value"),
        ({"value": "right"}, "value"),
        ({"value": None}, "value"),
        ({"value": {"up": 1}}, "value"),
        ({"kind": "score", "value": 1.5}, "value"),
        ({"kind": "score", "value": -0.1}, "value"),
        ({"kind": "score", "value": True}, "value"),
        ({"kind": "score", "value": "0.5"}, "value"),
        ({"kind": "label", "value": "up"}, "value"),
        ({"kind": "text", "value": True}, "value"),
        ({"kind": "correction", "value": ""}, "value"),
        ({"kind": "correction", "value": "x" * 40_000}, "value"),
        ({"source": "robot"}, "source"),
        ({"source": 7}, "source"),
        ({"labeller": "ann"}, "labeller"),
        ({"kind": "label", "labeller": "ann\u0007"}, "labeller"),
        ({"last_tier_right": True}, "last_tier_right"),
        ({"kind": "label", "last_tier_right": "yes"}, "last_tier_right"),
        ({"stars": 5}, "stars"),
        ({"model": "auto"}, "model"),
    ],
)
async def test_what_is_no_feedback_is_refused_by_name(
    endpoint: Endpoints, changed: dict[str, Any], param: str
) -> None:
    at = endpoint(max_body_bytes=1 << 20)
    body = {"decision": await decided(at), **UP} | changed
    reply = await given(at, {name: value for name, value in body.items() if value is not None})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert at.feedback == []


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("[]", 400), ("{", 400), ('{"value": NaN}', 400), (b"\xff", 400), ("x" * 70_000, 413)],
)
async def test_a_body_that_is_no_object_or_too_long_is_refused(endpoint: Endpoints, body: Any, status: int) -> None:
    assert (await given(endpoint(max_body_bytes=1 << 20), body)).status_code == status


def test_the_guides_table_names_the_fields_of_a_body() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "feedback.md").read_text().split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", guide, re.MULTILINE) == list(FeedbackRequest.model_fields)


async def test_an_idempotency_key_is_bounded(endpoint: Endpoints) -> None:
    at = endpoint()
    body = {"decision": await decided(at), **UP}
    assert (await given(at, body, **{"idempotency-key": "k" * 300})).status_code == 400
    assert (await given(at, body, **{"idempotency-key": "k" * 200})).status_code == 200
    assert len(at.feedback[0].replays) == 1


async def test_another_keys_decision_is_answered_as_one_that_is_not_there(endpoint: Endpoints) -> None:
    at = endpoint(secrets=("team", "other"))
    theirs = await decided(at, "other")
    replies = [await given(at, {"decision": name, **UP}, "team") for name in (theirs, "dec-" + "0" * 32)]
    assert [reply.status_code for reply in replies] == [404, 404]
    errors = [reply.text.replace(theirs, "X").replace("dec-" + "0" * 32, "X") for reply in replies]
    assert errors[0] == errors[1]
    assert (await given(at, {"decision": theirs, **UP}, "other")).status_code == 200
    assert [(one.key, one.by_admin) for one in at.feedback] == [("other", False)]


async def test_without_a_key_nobody_says_anything_where_there_are_keys(endpoint: Endpoints) -> None:
    at = endpoint(secrets=("team",))
    assert (await given(at, {"decision": "dec-1", **UP})).status_code == 401


async def test_an_administrator_speaks_of_every_decision_and_alone_labels(
    endpoint: Endpoints, a_record: Records
) -> None:
    at = endpoint(secrets=("boss",), scopes=("admin",))
    at.sink.records.append(a_record("dec-1", key="team"))
    label = {"decision": "dec-1", "kind": "label", "value": "wrong", "labeller": "ann", "last_tier_right": True}
    assert (await given(at, label, "boss")).status_code == 200
    [kept] = at.feedback
    assert (kept.by_admin, kept.labeller, kept.last_tier_right) == (True, "ann", True)
    callers = endpoint(secrets=("team",))
    mine = await decided(callers, "team")
    refused = await given(callers, label | {"decision": mine}, "team")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")


async def test_feedback_is_held_to_a_keys_requests_per_minute_and_not_to_its_budget(endpoint: Endpoints) -> None:
    at = endpoint(secrets=("team",), limits={"requests_per_min": 3, "usd_per_day": "0.01"})
    decision = await decided(at, "team")
    assert [(await given(at, {"decision": decision, **UP}, "team")).status_code for _ in range(3)] == [200, 200, 429]


async def test_feedback_is_counted_and_shown_with_its_decision(endpoint: Endpoints) -> None:
    at = endpoint()
    decision = await decided(at)
    await given(at, {"decision": decision, **UP, "source": "judge:m"})
    async with at.client() as client:
        page = (await client.get(f"/v1/decisions/{decision}")).json()
        metrics = (await client.get("/metrics")).text
    assert [(one["kind"], one["value"], one["source"]) for one in page["feedback"]] == [("thumbs", 1.0, "judge:m")]
    assert 'serve_graph_feedback_total{kind="thumbs"} 1.0' in metrics


@pytest.mark.parametrize("path", ["/feedback", "/v1/v1/feedback", "/openai/v1/feedback/"])
async def test_the_route_is_found_under_the_paths_that_clients_use(endpoint: Endpoints, path: str) -> None:
    at = endpoint()
    async with at.client() as client:
        reply = await client.post(path, json={"decision": await decided(at), **UP})
    assert reply.status_code == 200


TEAM = Caller(KeyConfig(name="team", sha256="0" * 64))
OTHER = Caller(KeyConfig(name="other", sha256="0" * 64))
THUMBS = GivenFeedback("dec-1", "thumbs", "human", 1.0)


def intake(find: Any, kept: list[Feedback], store_within_s: float = 2.0) -> FeedbackIntake:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    return FeedbackIntake(
        find, kept.append, looks_s=(0.0, 0.0, 0.0), store_within_s=store_within_s, now=lambda: moment
    )


class Finds:
    """A store that has a decision from the nth look on."""

    def __init__(self, record: DecisionRecord, at: int = 1) -> None:
        self.record, self.at, self.looks = record, at, 0

    async def __call__(self, _: str) -> DecisionRecord | None:
        self.looks += 1
        return self.record if self.looks >= self.at else None


async def test_a_decision_that_appears_a_moment_later_is_found(a_record: Records) -> None:
    find, kept = Finds(a_record(key="team"), at=3), list[Feedback]()
    await intake(find, kept).take(THUMBS, TEAM)
    assert (find.looks, kept[0].given_at) == (3, "2026-03-01T00:00:00.000+00:00")


@pytest.mark.parametrize(("recorded_s", "taken"), [(0.9, True), (4.5, True), (60.0, False)])
async def test_a_record_that_a_busy_machine_writes_seconds_after_its_reply_loses_no_label(
    a_record: Records, monkeypatch: pytest.MonkeyPatch, recorded_s: float, taken: bool
) -> None:
    """Looked for is for five seconds in all, whoever asks."""
    now, kept = 0.0, list[Feedback]()

    async def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def find(_: str) -> DecisionRecord | None:
        return a_record(key="team") if now >= recorded_s else None

    monkeypatch.setattr("serve_graph.learning.feedback.asyncio.sleep", passes)
    taking = FeedbackIntake(find, kept.append).take(THUMBS, TEAM)
    if taken:
        await taking
    else:
        with pytest.raises(NotFoundError):
            await taking
    assert (len(kept), now <= 6.0) == (int(taken), True)


async def test_another_keys_decision_is_looked_for_as_long_as_one_that_is_not_there(a_record: Records) -> None:
    find = Finds(a_record(key="team"))
    with pytest.raises(NotFoundError):
        await intake(find, []).take(THUMBS, OTHER)
    assert find.looks == 3


async def away(_: str) -> None:
    raise StoreUnavailableError("down")


async def never(_: str) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("find", [away, never])
async def test_while_the_store_is_away_or_does_not_answer_everything_is_taken(find: Any) -> None:
    kept: list[Feedback] = []
    await intake(find, kept, store_within_s=0.01).take(THUMBS, TEAM)
    assert (kept[0].key, kept[0].by_admin) == ("team", False)


async def test_a_key_that_may_not_ask_gives_no_feedback_on_answers(a_record: Records) -> None:
    with pytest.raises(AccessError):
        await intake(Finds(a_record()), []).take(
            THUMBS, Caller(KeyConfig(name="team", sha256="0" * 64, scopes=("force",)))
        )
