"""Every request field, sent over HTTP to every kind of engine: it becomes what the tables say.

What a hosted API gets is read from a scripted one in a process of its own; what vLLM and the echo engine get, from the
handle of their deployment.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_type_hints

import httpx
import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from serve_graph.api.messages import MessagesRequest
from serve_graph.api.responses import ResponsesRequest
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, EchoTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.protocol.embeddings import EmbeddingsRequest
from serve_graph.protocol.fields import ENGINE_KINDS, TABLES, EngineKind, Handling
from serve_graph.protocol.requests import ChatRequest, CompletionRequest
from tests.contract.fields.field_values import (
    BASE,
    BESIDE,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    TOOL,
    VALUES,
    F,
    becomes,
)
from tests.fixtures.upstream import DirectHandle

pytestmark = pytest.mark.sampled()

PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
REPLY = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {}}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]


def tier(kind: EngineKind, url: str = "") -> AnyTierConfig:
    common: dict[str, Any] = {"name": "frontier", "price": PRICE, "embeddings": kind != "vllm"}
    if kind == "openai":
        return HostedTierConfig(engine="openai", model="api-model", base_url=url, **common)
    if kind == "vllm":
        return VllmTierConfig(engine="vllm", weights=WeightsConfig(hub="a/b"), **common)
    return EchoTierConfig(engine="echo", **common)


class Graph:
    """An endpoint whose last tier has an engine of one kind, and what that engine got.

    `made` are endpoints by their settings, each of which is made once.
    """

    def __init__(self, endpoint: Callable[..., Any], kind: EngineKind, api: Any, made: dict[str, Any]) -> None:
        self.make, self.api, self.config, self.made = endpoint, api, tier(kind, api.url if api else ""), made
        self.handle = FakeHandle(REPLY)

    async def ask(self, path: str, body: dict[str, Any], **settings: Any) -> httpx.Response:
        """Ask over HTTP, as a caller does."""
        from serve_graph.cluster.hosted_deployment import HostedDeployment
        from serve_graph.cluster.tier_client import HandleEngine

        handle: Any = self.handle
        if isinstance(self.config, HostedTierConfig):
            handle = DirectHandle(HostedDeployment(self.config))
        engine = HandleEngine(handle, self.config)
        name = f"{self.config.engine} {settings}"
        at = self.made[name] = self.made.get(name) or self.make(frontier=engine, embedder=engine, **settings)
        at.context.engines["frontier"] = at.context.embedders["frontier"] = engine
        self.handle.reply = VECTORS if path == EMBEDDINGS else CHUNKS if body.get("stream") else REPLY
        async with at.client() as client:
            reply: httpx.Response = await client.post(path, json={"model": "frontier", **BASE[path], **body})
        if isinstance(self.config, HostedTierConfig):
            await handle.deployment.engine.close()
        return reply

    @property
    def got(self) -> dict[str, Any] | None:
        """The body of the last call, None where there was none."""
        if isinstance(self.config, HostedTierConfig):
            state = self.api.state()
            return dict(state["last"]["body"]) if state["seen"] else None
        return dict(self.handle.asked[-1][0]) if self.handle.asked else None


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """The endpoints of this module's tests."""
    return {}


@pytest.fixture(params=ENGINE_KINDS)
def graph(request: pytest.FixtureRequest, endpoint: Callable[..., Any], made: dict[str, Any]) -> Graph:
    api = request.getfixturevalue("api") if request.param == "openai" else None  # the others ask nobody
    return Graph(endpoint, request.param, api, made)


REQUIRED = [f"{path.removeprefix('/v1/')}-{name}" for path in BASE for name in ("model", *BASE[path])]
CELLS = [
    pytest.param(path, name, id=f"{path.removeprefix('/v1/')}-{name}")
    for path, table in TABLES.items()
    for name in table
]


@pytest.mark.parametrize(("path", "name"), CELLS)
async def test_a_field_becomes_what_its_table_says(graph: Graph, path: str, name: str) -> None:
    handling = TABLES[path][name].handling[graph.config.engine]
    value = VALUES[path][name]
    reply = await graph.ask(path, {name: value, **BESIDE[path].get(name, {})})
    got = graph.got
    if handling is Handling.REFUSED:
        assert (reply.status_code, name in reply.json()["error"]["message"], got) == (400, True, None)
        return
    assert (reply.status_code, got is not None) == (200, True), reply.text
    assert got is not None
    if handling is Handling.FORWARDED:
        assert got[name] == value
    elif handling is Handling.CONSUMED:
        assert name not in got
    else:
        expected = becomes(path, name, graph.config.engine)
        assert {key: got.get(key) for key in expected} == expected


@pytest.mark.parametrize(("path", "name"), [cell for cell in CELLS if cell.id not in REQUIRED])
async def test_a_null_is_no_fault_and_reaches_an_api_as_it_was_sent(graph: Graph, path: str, name: str) -> None:
    reply = await graph.ask(path, {name: None})
    got = graph.got
    assert (reply.status_code, got is not None) == (200, True), reply.text
    assert got is not None
    forwarded = TABLES[path][name].handling[graph.config.engine] is Handling.FORWARDED
    tiers_own = ("max_tokens", "top_logprobs", "encoding_format")  # what the tier says where the request does not
    if graph.config.engine == "openai" and forwarded and path not in (RESPONSES, MESSAGES) and name not in tiers_own:
        assert got[name] is None
        assert name in got


@pytest.mark.parametrize(
    ("path", "model", "params"),
    [
        (CHAT, ChatRequest, chat_create_params.CompletionCreateParamsBase),
        (COMPLETIONS, CompletionRequest, completion_create_params.CompletionCreateParamsBase),
        (RESPONSES, ResponsesRequest, response_create_params.ResponseCreateParamsBase),
        (MESSAGES, MessagesRequest, object),
        (EMBEDDINGS, EmbeddingsRequest, embedding_create_params.EmbeddingCreateParams),
    ],
)
def test_the_tables_have_every_field_that_is_read_and_every_one_of_openais(path: str, model: Any, params: Any) -> None:
    assert set(TABLES[path]) == set(model.model_fields) == set(VALUES[path])
    assert set(get_type_hints(params)) <= set(TABLES[path])


UNKNOWN: dict[str, Any] = {
    "stop_token_ids": [1],
    "structured_outputs": {"json": {}},
    "litellm_session_id": "s",
    "thinking": {"type": "disabled", "budget": None},
    "extra_body": {"a": 1},
}


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path in BASE for name in UNKNOWN if name not in TABLES[path]],
)
@pytest.mark.parametrize("policy", ["refuse", "ignore", "forward"])
async def test_an_unknown_field_is_refused_ignored_or_forwarded(
    graph: Graph, policy: str, name: str, path: str
) -> None:
    reply = await graph.ask(path, {name: UNKNOWN[name]}, unknown_fields=policy)
    got = graph.got
    if policy == "refuse":
        error = reply.json()["error"]
        assert (reply.status_code, got, name in error["message"]) == (400, None, True)
        if path != MESSAGES:  # Anthropic's errors have neither
            assert (error["code"], error["param"]) == ("unknown_field", name)
        return
    assert (reply.status_code, got is not None) == (200, True), reply.text
    assert (got or {}).get(name, "none") == (UNKNOWN[name] if policy == "forward" else "none")


@pytest.mark.parametrize("policy", ["ignore", "forward"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"serve_graph": {"colour": 1}}),
        (COMPLETIONS, {"messages": [{"role": "user", "content": "another question"}]}),
        (COMPLETIONS, {"tools": [TOOL]}),
        (RESPONSES, {"messages": [{"role": "user", "content": "another question"}]}),
        (EMBEDDINGS, {"logprobs": True}),
        (MESSAGES, {"frequency_penalty": 1}),
    ],
    ids=str,
)
async def test_our_own_options_and_fields_of_chat_are_never_let_through(
    graph: Graph, path: str, body: dict[str, Any], policy: str
) -> None:
    reply = await graph.ask(path, body, unknown_fields=policy)
    code = reply.json()["error"].get("code", "unknown_field")  # Anthropic's errors have none
    assert (reply.status_code, code, graph.got) == (400, "unknown_field", None)
    assert next(iter(body.get("serve_graph", body))) in reply.json()["error"]["message"]


@pytest.mark.parametrize("policy", ["ignore", "forward"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"stream": True, "stream_options": {"include_usage": True, "chunk_size": 1}}),
        (RESPONSES, {"reasoning": {"effort": "low", "budget": 1}}),
        (RESPONSES, {"text": {"format": {"type": "text", "x": 1}, "y": 2}}),
        (MESSAGES, {"metadata": {"user_id": "u", "x": 1}}),
        (MESSAGES, {"output_config": {"effort": "low", "task_budget": 1}}),
        (RESPONSES, {"tools": [{"type": "function", **F, "cache_control": {"type": "ephemeral"}}]}),
    ],
    ids=str,
)
async def test_unknown_fields_of_nested_objects_are_ignored(
    graph: Graph, path: str, body: dict[str, Any], policy: str
) -> None:
    assert (await graph.ask(path, body)).status_code == 400
    assert (await graph.ask(path, body, unknown_fields=policy)).status_code == 200


async def test_vllm_gets_thinking_where_its_chat_templates_read_it(endpoint: Callable[..., Any]) -> None:
    graph = Graph(endpoint, "vllm", None, {})
    asked = {"enable_thinking": False, "chat_template_kwargs": {"style": "short"}}
    assert (await graph.ask(CHAT, asked, unknown_fields="forward")).status_code == 200
    assert graph.got is not None
    assert graph.got["chat_template_kwargs"] == {"style": "short", "enable_thinking": False}
    assert "enable_thinking" not in graph.got


@pytest.mark.parametrize("kind", ENGINE_KINDS)
async def test_nulls_in_messages_reach_an_api_and_no_other_engine(
    endpoint: Callable[..., Any], api: Any, kind: EngineKind
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": None}], "name": None},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    graph = Graph(endpoint, kind, api, {})
    assert (await graph.ask(CHAT, {"messages": messages})).status_code == 200
    assert graph.got is not None
    got = graph.got["messages"]
    if kind == "vllm":
        assert got[0] == {"role": "user", "content": [{"type": "text", "text": "hello"}]}
        assert "refusal" not in got[1]
    else:
        assert got[:2] == messages[:2]


@pytest.mark.parametrize("asked", [{"modalities": ["text", "audio"]}, {"modalities": ["audio"]}], ids=str)
async def test_vllm_is_not_asked_for_more_than_text(endpoint: Callable[..., Any], asked: dict[str, Any]) -> None:
    graph = Graph(endpoint, "vllm", None, {})
    reply = await graph.ask(CHAT, asked)
    assert (reply.status_code, graph.got) == (400, None)
    assert "modalities" in reply.json()["error"]["message"]
