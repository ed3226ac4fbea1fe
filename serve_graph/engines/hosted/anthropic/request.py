"""Convert a chat request to a request of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.anthropic.messages import system_blocks, turns_of
from serve_graph.engines.hosted.deployment_error import DeploymentError

BUDGETS_BY_EFFORT = MappingProxyType({"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768})
ADAPTIVE_EFFORTS = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
)
LEAST_BUDGET = 1024  # Anthropic's
ANSWER_SHARE = 0.25  # of max_tokens, at least, is left for the answer after the reasoning
JSON_ONLY = "Answer with one JSON object and nothing else."
EMPTY_SCHEMA: Mapping[str, Any] = MappingProxyType({"type": "object", "properties": {}})
MOST_USER_CHARS = 256  # of `metadata.user_id`
UNSUPPORTED_HERE = ("audio", "web_search_options", "moderation")
CACHED: Mapping[str, str] = MappingProxyType({"type": "ephemeral"})


def anthropic_request(body: Mapping[str, Any], config: HostedDeploymentConfig) -> dict[str, Any]:
    """Return the request for a chat body. What the Messages API has no counterpart for is left out.

    Raises DeploymentError, as a request's fault, for several choices and for content that the API does not take.
    """
    given = {name: value for name, value in body.items() if config.parameters.get(name, name) is not None}
    renamed = {new: given.pop(name) for name, new in config.parameters.items() if new and name in given}
    if int(given.get("n") or 1) > 1:
        raise DeploymentError("the tier's API makes one choice: n must be 1", 400)
    stray = [name for name in UNSUPPORTED_HERE if given.get(name) is not None]
    stray += ["modalities"] if (given.get("modalities") or ["text"]) != ["text"] else []
    if stray:
        raise DeploymentError(f"{stray[0]} is not supported by the tier's API", 400)
    messages = body["messages"]
    most = int(given.get("max_tokens") or given.get("max_completion_tokens") or 1024)
    tools = _tool_fields(given, messages)
    thinking = _thinking(given, most, config) if _may_think(messages, tools) else {}
    request: dict[str, Any] = {
        "model": config.model,
        "max_tokens": most,
        "messages": turns_of(messages, thinks="thinking" in thinking),
        **tools,
        **({} if thinking else _sampling(given)),
        **thinking,
    }
    if system := _system(messages, given.get("response_format")):
        request["system"] = system
    if schema := _schema(given.get("response_format")):
        request["output_config"] = {**request.get("output_config", {}), "format": schema}
    if stop := _stop_sequences(given.get("stop")):
        request["stop_sequences"] = stop
    if caching := given.get("anthropic_cache_control") or (CACHED if config.prompt_caching else None):
        request["cache_control"] = dict(caching)
    if user := given.get("user") or given.get("safety_identifier"):
        request["metadata"] = {"user_id": str(user)[:MOST_USER_CHARS]}
    if body.get("stream"):
        request["stream"] = True
    return request | renamed


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return temperature (at most 1, Anthropic's largest) or else top_p, as its models take one of them, and top_k."""
    found = {name: given[name] for name in ("temperature", "top_p", "top_k") if given.get(name) is not None}
    if "temperature" in found:
        found["temperature"] = min(float(found["temperature"]), 1.0)
        found.pop("top_p", None)
    if int(found.get("top_k", 1)) < 1:  # vLLM's words for all tokens
        del found["top_k"]
    return found


def _system(messages: Sequence[Mapping[str, Any]], response_format: Any) -> list[dict[str, Any]]:
    blocks = system_blocks(messages)
    if isinstance(response_format, Mapping) and response_format.get("type") == "json_object":
        blocks.append({"type": "text", "text": JSON_ONLY})
    return blocks


def _schema(response_format: Any) -> dict[str, Any] | None:
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return None
    schema = (response_format.get("json_schema") or {}).get("schema")
    return {"type": "json_schema", "schema": schema} if schema else None


def _stop_sequences(stop: Any) -> list[str]:
    """Return the stop strings that Anthropic takes: it refuses those of white space alone."""
    return [text for text in ([stop] if isinstance(stop, str) else stop or ()) if text.strip()]


def _tool_fields(given: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `tools` and `tool_choice`. A conversation with calls needs tools even where none may be called now."""
    tools = [_tool(tool) for tool in given.get("tools") or ()]
    if not tools:
        names = {call["function"]["name"]: None for message in messages for call in message.get("tool_calls") or ()}
        if not names:
            return {}
        tools = [{"name": name, "input_schema": dict(EMPTY_SCHEMA)} for name in names]
        return {"tools": tools, "tool_choice": {"type": "none"}}
    choice = _choice(given.get("tool_choice"))
    if given.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools} | ({"tool_choice": choice} if choice else {})


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, Mapping):
        raise DeploymentError(f"the tier's API takes no tools of type {tool.get('type')!r}", 400)
    schema = {"type": "object", **(function.get("parameters") or EMPTY_SCHEMA)}
    found = {"name": function.get("name"), "description": function.get("description"), "input_schema": schema}
    found |= {"strict": function.get("strict") or None, "cache_control": tool.get("cache_control")}
    return {name: value for name, value in found.items() if value is not None}


def _choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, Mapping):
        name = (choice.get("function") or {}).get("name")
        return {"type": "tool", "name": name} if name else None
    return {"none": {"type": "none"}, "required": {"type": "any"}, "auto": {"type": "auto"}}.get(choice or "")


def _may_think(messages: Sequence[Mapping[str, Any]], tools: Mapping[str, Any]) -> bool:
    """Whether the API lets the model reason: no call is demanded, and a loop under way began with its reasoning."""
    if (tools.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return False
    said = next((message for message in reversed(messages) if message.get("role") == "assistant"), None)
    return not said or not said.get("tool_calls") or bool(said.get("thinking_blocks"))


def _thinking(given: Mapping[str, Any], most: int, config: HostedDeploymentConfig) -> dict[str, Any]:
    """Return the fields for the effort asked for; the budget form fits it into `max_tokens`, or leaves it out."""
    effort = str(given.get("reasoning_effort"))
    if effort not in BUDGETS_BY_EFFORT:
        return {}
    if config.thinking == "adaptive":
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": ADAPTIVE_EFFORTS[effort]}}
    budget = min(BUDGETS_BY_EFFORT[effort], int(most * (1 - ANSWER_SHARE)))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= LEAST_BUDGET else {}
