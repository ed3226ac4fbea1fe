"""Check that what a task asks is a request that the endpoint would take, before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.data.starter import Task
from router_models.data.starter.task import REQUEST_FIELDS
from serve_graph.errors import RequestError
from serve_graph.protocol.requests import ChatRequest, parse_request

SAMPLING_SETTINGS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "stop",
    "logit_bias",
    "min_tokens",
    "ignore_eos",
    "skip_special_tokens",
    "reasoning_effort",
    "verbosity",
    "chat_template_kwargs",
)
"""What `decoding` of a task and `--decoding` may set."""
_FORMATS = ("text", "json_object", "json_schema")
_CHOICES = ("none", "auto", "required")


def check_request(task: Task) -> None:
    """Check a task's messages and parameters; a plain prompt always passes.

    Raises ValueError naming the field and what is wrong with it.
    """
    check_decoding({name: value for name, value in task.parameters.items() if name not in REQUEST_FIELDS})
    if not task.messages and not task.parameters:
        return
    _check_body({**task.carried, "messages": task.chat})
    _check_tools(task.parameters)
    _check_format(task.parameters.get("response_format"))
    _check_turns(task.chat)


def check_decoding(settings: Mapping[str, Any]) -> None:
    """Check sampling settings; ValueError names one that is none, or a value that the endpoint would refuse."""
    for name in settings:
        if name not in SAMPLING_SETTINGS:
            hint = "a task's own 'max_tokens' says that" if name in ("max_tokens", "max_completion_tokens") else ""
            known = ", ".join(SAMPLING_SETTINGS)
            raise ValueError(f"{name!r} is no sampling setting: {hint or f'there are {known}'}")
    if settings:
        _check_body({**settings, "messages": [{"role": "user", "content": "?"}]})


def _check_body(body: Mapping[str, Any]) -> None:
    try:
        parse_request(ChatRequest, json.dumps({"model": "auto", **body}).encode())
    except RequestError as error:
        raise ValueError(str(error)) from error


def _check_tools(parameters: Mapping[str, Any]) -> None:
    tools, choice = parameters.get("tools"), parameters.get("tool_choice")
    names = [_function_name(tool) for tool in tools] if isinstance(tools, list) else []
    if tools is not None and not names:
        raise ValueError("'tools' is empty: leave it out, or declare a function")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the tool {twice!r} is declared twice")
    if choice is None:
        return
    if not names:
        raise ValueError("'tool_choice' without 'tools': there is nothing to choose from")
    if isinstance(choice, str) and choice not in _CHOICES:
        raise ValueError(f"'tool_choice' is {', '.join(_CHOICES)} or names a function, got {choice!r:.60}")
    if isinstance(choice, Mapping) and _function_name(choice) not in names:
        raise ValueError(f"'tool_choice' names {_function_name(choice)!r}, which is none of the tools")


def _function_name(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        form = '{"type": "function", "function": {"name": …}}'
        raise ValueError(f"a tool is {form}, got {tool!r:.60}")
    return name


def _check_format(given: Any) -> None:
    if given is None:
        return
    kind = given.get("type")
    if kind not in _FORMATS:
        raise ValueError(f"'response_format' is of the type {', '.join(_FORMATS)}, got {kind!r:.60}")
    schema = given.get("json_schema")
    if kind == "json_schema" and not (isinstance(schema, Mapping) and isinstance(schema.get("schema"), Mapping)):
        raise ValueError("'response_format' of the type json_schema needs 'json_schema' with a 'schema'")


def _check_turns(chat: Sequence[Mapping[str, Any]]) -> None:
    """Somebody asks, and every result of a tool is of a call before it."""
    if not any(message["role"] == "user" for message in chat):
        raise ValueError("no message is of the role user: nothing is asked")
    called: set[str] = set()
    for message in chat:
        called |= {str(call.get("id")) for call in message.get("tool_calls") or () if isinstance(call, Mapping)}
        if message["role"] == "tool" and message.get("tool_call_id") not in called:
            raise ValueError(f"a tool's result for the call {message.get('tool_call_id')!r:.60}, which nobody made")
    if chat[-1].get("tool_calls"):
        raise ValueError("the last message calls tools, and their results are missing")
