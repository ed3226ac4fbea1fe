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
from serve_graph.config.tiers import AnyTierConfig, EchoTierConfig, HostedTierConfig, VllmTierConfig, WeightsConfig
from serve_graph.protocol.embeddings import EmbeddingsRequest
from serve_graph.protocol.fields import ENGINE_KINDS, TABLES, EngineKind, Handling
from serve_graph.protocol.requests import ChatRequest, CompletionRequest
from tests.fixtures.upstream import DirectHandle

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = TABLES
PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
REPLY = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
VECTORS = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {}}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    EMBEDDINGS: {"input": "hello"},
}
REQUIRED = [f"{path.removeprefix('/v1/')}-{name}" for path in BASE for name in ("model", *BASE[path])]
F = {"name": "f", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": F}
SCHEMA = {"name": "s", "schema": {"type": "object", "additionalProperties": None}}
AS_SENT: dict[str, Any] = {
    "max_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "n": 2,
    "stop": ["a", "b"],
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 1.5},
    "user": "u-1",
    "metadata": {"app": "x"},
    "store": False,
    "service_tier": "flex",
    "safety_identifier": "u-1",
    "prompt_cache_key": "app-1",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit"},
    "moderation": {"model": "omni"},
    "parallel_tool_calls": False,
    "serve_graph": {"task": "sum"},
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "min_tokens": 1,
    "ignore_eos": True,
    "skip_special_tokens": False,
}
VALUES: dict[str, dict[str, Any]] = {
    CHAT: AS_SENT
    | {
        "model": "frontier",
        "messages": [{"role": "assistant", "content": "a", "name": "b"}, {"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True, "continuous_usage_stats": True},
        "max_completion_tokens": 7,
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "functions": [F],
        "function_call": {"name": "f"},
        "reasoning_effort": "low",
        "verbosity": "low",
        "modalities": ["text"],
        "audio": {"voice": "ash", "format": "wav"},
        "prediction": {"type": "content", "content": "x"},
        "web_search_options": {"search_context_size": "low"},
        "chat_template_kwargs": {"enable_thinking": False},
    },
    COMPLETIONS: {k: v for k, v in AS_SENT.items() if k not in ("moderation", "parallel_tool_calls")}
    | {
        "model": "frontier",
        "prompt": "hello",
        "suffix": "x",
        "echo": True,
        "best_of": 2,
        "logprobs": 3,
        "stream": True,
        "stream_options": {"include_obfuscation": True},
    },
    RESPONSES: {k: v for k, v in AS_SENT.items() if k in TABLES[RESPONSES]}
    | {
        "model": "frontier",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
        "instructions": "be short",
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "max_output_tokens": 7,
        "max_tool_calls": 3,
        "tools": [{"type": "function", **F}, {"type": "custom", "name": "patch"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "client_metadata": {"a": "b"},
        "top_logprobs": 3,
        "background": True,
        "background_options": {"x": 1},
        "previous_response_id": "resp_1",
        "conversation": "conv_1",
        "context_management": [{"type": "compaction"}],
        "prompt": {"id": "pmpt_1"},
        "image": {"x": 1},
        "access_programs": ["x"],
    },
    MESSAGES: {
        "model": "frontier",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "system": [{"type": "text", "text": "be short"}],
        "max_tokens": 7,
        "stream": True,
        "stop_sequences": ["a", "b"],
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "metadata": {"user_id": "u-1"},
        "tools": [{"name": "f", "input_schema": F["parameters"]}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA["schema"]}},
        "output_format": {"type": "json_schema", "schema": SCHEMA["schema"]},
        "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "diagnostics": {"previous_message_id": "msg_1"},
        "service_tier": "auto",
        "speed": "standard",
        "mcp_servers": [{"url": "https://example.org"}],
        "container": "c-1",
        "serve_graph": {"task": "sum"},
    },
    EMBEDDINGS: {"model": "frontier", "input": "hello", "encoding_format": "base64", "dimensions": 8, "user": "u-1"},
}
BESIDE: dict[str, dict[str, dict[str, Any]]] = {
    CHAT: {"stream_options": {"stream": True}, "function_call": {"functions": [F]}},
    COMPLETIONS: {"stream_options": {"stream": True}},
    RESPONSES: {"stream_options": {"stream": True}},
    MESSAGES: {"tool_choice": {"tools": VALUES[MESSAGES]["tools"]}},
    EMBEDDINGS: {},
}
"""What a field needs beside it."""


def becomes(path: str, name: str, kind: EngineKind) -> dict[str, Any]:
    """What a translated field is in the engine's body."""
    if name == "model":
        return {"model": "api-model" if kind == "openai" else "frontier"}
    if name == "stream_options":
        obfuscation = {"include_obfuscation": VALUES[path][name]["include_obfuscation"]} if kind == "openai" else {}
        extras = {} if kind == "openai" else {"continuous_usage_stats": True}
        return {"stream": True, "stream_options": {"include_usage": True, **obfuscation, **extras}}
    hello = {"role": "user", "content": "hello"}
    schema = {"type": "json_schema", "json_schema": {"name": "output", "schema": SCHEMA["schema"], "strict": True}}
    if path == MESSAGES and name != "stream":
        return {
            "messages": {"messages": [hello]},
            "system": {"messages": [{"role": "system", "content": "be short"}, hello]},
            "stop_sequences": {"stop": ["a", "b"]},
            "metadata": {"user": "u-1", "metadata": None},
            "tools": {"tools": [TOOL]},
            "tool_choice": {
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": False,
            },
            "thinking": {"reasoning_effort": "low", "thinking": None},
            "output_config": {"reasoning_effort": "low", "response_format": schema},
            "output_format": {"response_format": schema},
        }[name]
    choice = {"type": "function", "function": {"name": "f"}}
    return {
        "stream": {"stream": True},
        "max_completion_tokens": {"max_tokens": 7},
        "max_output_tokens": {"max_tokens": 7},
        "logprobs": {"logprobs": True},
        "functions": {"tools": [TOOL], "parallel_tool_calls": False},
        "function_call": {"tool_choice": choice},
        "prompt": {"messages": [hello]},
        "input": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        "instructions": {"messages": [{"role": "system", "content": "be short"}, hello]},
        "tools": {"tools": [TOOL, {"type": "custom", "custom": {"name": "patch"}}]},
        "tool_choice": {"tool_choice": choice},
        "text": {"response_format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"reasoning_effort": "low"},
    }[name]


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
