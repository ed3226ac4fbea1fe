"""What a graph changes between a caller and an API, and nothing else: hundreds of exchanges with it and without.

Each exchange goes through the graph, forced to a hosted tier, and straight to the API behind that tier, which replies
the same to both. What the API was sent and what the caller received differ in the fields listed here, and in no other;
a field that is listed and never differs fails too. `/v1/completions` and `/v1/responses` are compared with the same
question in chat.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pytest

from serve_graph.protocol.fields import CHAT_FIELDS, Handling
from tests.fixtures.exchanges.exchange_forms import received, straight_from, streams
from tests.fixtures.exchanges.exchange_grammar import Exchange, exchanges
from tests.fixtures.local_graph import HOSTED, LocalGraph, ScriptedApi, listening

COUNT = 322
Differing = Mapping[str, tuple[Callable[[Exchange], bool], str]]
Found = dict[str, list[Exchange]]


def always(_: Exchange) -> bool:
    return True


def is_text(exchange: Exchange) -> bool:
    return exchange.kind == "completions"


def is_response(exchange: Exchange) -> bool:
    return exchange.kind == "responses"


def no_logprobs_asked(exchange: Exchange) -> bool:
    return not exchange.chat.get("logprobs") or exchange.kind != "chat"


def no_usage_asked(exchange: Exchange) -> bool:
    return streams(exchange) and "stream_options" not in exchange.chat


SENT_DIFFERS: Differing = {
    "model": (always, "the model that the tier's configuration names"),
    "stream new": (lambda e: not streams(e), "the client library says `stream: false`"),
    "stream_options new": (no_usage_asked, "usage is asked for with every stream: it is billed"),
    "logprobs new": (always, "verifiers read the logprobs of an answer"),
    "logprobs": (no_logprobs_asked, "likewise where the caller says false"),
    "top_logprobs gone": (lambda e: e.chat.get("top_logprobs") == 0, "0 is the default, and some APIs refuse it"),
    "max_tokens new": (
        lambda e: "max_tokens" not in e.chat, "`max_completion_tokens`, or else the tier's `default_max_tokens`"
    ),
    "max_tokens": (lambda e: "max_completion_tokens" in e.chat, "its newer name wins"),
    "max_completion_tokens gone": (always, "sent as `max_tokens`, which `parameters` of the tier may rename"),
}  # fmt: skip
"""Path in the request that the API sees → where and why it differs from what the caller sent."""
RECEIVED_DIFFERS: Differing = {
    "id": (always, "the decision's"),
    "created": (always, "the decision's"),
    "model": (always, "the tier that answered"),
    "serve_graph new": (always, "the decision"),
    "system_fingerprint gone": (always, "of one deployment of the tier; the decision names the tier"),
    "choices[].logprobs": (no_logprobs_asked, "shown only where they were asked for"),
    "choices[].logprobs gone": (no_logprobs_asked, "likewise"),
    "choices[].message.tool_calls[].id": (always, "marked with the tier, which a tool loop stays on"),
    "usage gone": (no_usage_asked, "shown only where it was asked for"),
    "usage.prompt_tokens_details new": (always, "says how many tokens were cached, 0 among them"),
    "usage.prompt_tokens_details.audio_tokens gone": (is_response, "no field of a response's usage"),
    "usage.completion_tokens_details new": (is_response, "a response's usage always counts reasoning"),
    "usage.completion_tokens_details.accepted_prediction_tokens gone": (is_response, "no field of a response's usage"),
}
"""Path in the reply that the caller sees → where and why it differs from what the API sent."""


def differences(straight: Any, through: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which two JSON values differ; an index is `[]`."""
    if isinstance(straight, Mapping) and isinstance(through, Mapping):
        for name in {**straight, **through}:
            at = f"{path}.{name}".lstrip(".")
            if name in straight and name in through:
                yield from differences(straight[name], through[name], at)
            else:
                yield f"{at} {'gone' if name in straight else 'new'}"
    elif isinstance(straight, list) and isinstance(through, list) and len(straight) == len(through):
        for one, other in zip(straight, through, strict=True):
            yield from differences(one, other, f"{path}[]")
    elif straight != through or isinstance(straight, bool) != isinstance(through, bool):
        yield path


@dataclass
class Comparison:
    """What differed, and what the API and the caller received of every exchange."""

    sent: Found = field(default_factory=lambda: defaultdict(list))
    said: Found = field(default_factory=lambda: defaultdict(list))
    requests: list[tuple[Exchange, dict[str, Any]]] = field(default_factory=list)
    replies: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    async def run(self) -> Self:
        """Send every exchange both ways."""
        api = ScriptedApi()
        with listening(api) as url, pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "none")
            graph = LocalGraph(url)
            async with graph.client() as through, httpx.AsyncClient(base_url=url) as straight:
                for exchange in exchanges(COUNT):
                    api.plays(exchange.reply, exchange.reply)
                    route = "/v1/chat/completions" if exchange.kind == "chat" else f"/v1/{exchange.kind}"
                    ours = await through.post(route, json={"model": HOSTED, **exchange.body})
                    theirs = await straight.post("/v1/chat/completions", json={"model": HOSTED, **exchange.chat})
                    assert (ours.status_code, theirs.status_code) == (200, 200), f"{exchange}: {ours.text}"
                    self._compare(
                        exchange, api.bodies, straight_from(exchange, theirs.text), received(exchange, ours.text)
                    )
            await graph.close()
        return self

    def _compare(self, exchange: Exchange, bodies: list[Any], theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        seen, seen_straight = bodies
        for path in differences(seen_straight, seen):
            self.sent[path].append(exchange)
        for path in differences(theirs, ours):
            self.said[path].append(exchange)
        self.requests.append((exchange, seen))
        self.replies.append((theirs, ours))


@pytest.fixture(scope="module")
def found() -> Comparison:
    return asyncio.run(Comparison().run())


@pytest.mark.parametrize(("side", "listed"), [("sent", SENT_DIFFERS), ("said", RECEIVED_DIFFERS)])
def test_nothing_differs_but_what_is_listed_and_all_of_that_does(
    found: Comparison, side: str, listed: Differing
) -> None:
    differing: Found = getattr(found, side)
    unlisted = {
        path: [str(exchange) for exchange in where if path not in listed or not listed[path][0](exchange)]
        for path, where in differing.items()
    }
    assert {path: where[:5] for path, where in unlisted.items() if where} == {}
    assert listed.keys() - differing.keys() == set(), "listed, but the same by now"


def test_what_is_added_to_a_request_is_what_the_table_says(found: Comparison) -> None:
    for exchange, seen in found.requests:
        asked = exchange.chat
        limit = asked.get("max_completion_tokens", asked.get("max_tokens", 256))
        assert (seen["model"], seen["logprobs"], seen["max_tokens"]) == ("some-model", True, limit), str(exchange)
        assert seen["stream"] is streams(exchange), str(exchange)
        options = {**asked.get("stream_options", {}), "include_usage": True} if streams(exchange) else None
        assert seen.get("stream_options") == options, str(exchange)


def test_a_marked_call_keeps_the_id_that_the_api_gave_it(found: Comparison) -> None:
    pairs = [
        (call["id"], marked["id"])
        for theirs, ours in found.replies
        for choice, other in zip(theirs["choices"], ours["choices"], strict=True)
        for call, marked in zip(*(c["message"].get("tool_calls", ()) for c in (choice, other)), strict=True)
    ]
    assert len(pairs) > 20
    assert [pair for pair in pairs if not pair[1].endswith(f"{HOSTED}_{pair[0]}")] == []


def test_the_grammar_makes_every_kind_of_exchange_and_the_same_ones_each_time() -> None:
    made = list(exchanges(COUNT))
    assert made == list(exchanges(COUNT))
    assert len({json.dumps([e.kind, e.body, e.reply]) for e in made}) >= 300
    kinds = Counter((exchange.kind, streams(exchange)) for exchange in made)
    assert min(kinds.values()) >= COUNT // 20
    assert len(kinds) == 6


def test_every_field_that_reaches_a_hosted_api_as_it_was_sent_is_among_them() -> None:
    drawn = {name for exchange in exchanges(COUNT) if exchange.kind == "chat" for name in exchange.body}
    forwarded = {name for name, row in CHAT_FIELDS.items() if row.handling["openai"] is Handling.FORWARDED}
    assert forwarded - drawn == set()


def test_a_field_that_is_lost_changed_or_added_is_a_difference() -> None:
    before = {"a": [{"b": 1, "c": None}], "d": True, "e": "x"}
    after = {"a": [{"b": 2}], "d": 1, "e": "x", "f": 0}
    assert sorted(differences(before, after)) == ["a[].b", "a[].c gone", "d", "f new"]
