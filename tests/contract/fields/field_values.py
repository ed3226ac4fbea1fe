"""A value of every request field, what a field needs beside it, and what it becomes in an engine's body."""

from typing import Any

from serve_graph.protocol.fields import TABLES, EngineKind

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = TABLES
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
    EMBEDDINGS: {"input": "hello"},
}
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
