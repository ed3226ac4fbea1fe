"""A request's parameters as vLLM takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_graph.errors import EngineRequestError
from serve_graph.protocol.fields import UNSUPPORTED


def vllm_parameters(given: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the parameters in the form that vLLM takes.

    Raises EngineRequestError naming one that it cannot honour.
    """
    parameters = {name: value for name, value in given.items() if value is not None and name != "stream_options"}
    refused = next((name for name in parameters if name in UNSUPPORTED["vllm"]), None)
    if refused is None and parameters.get("modalities", ["text"]) != ["text"]:
        refused = "modalities"
    if refused is not None:
        message = f"{refused} is not supported by {model!r}, which vLLM serves"
        raise EngineRequestError(message, "unsupported_parameter", recordable=message)
    if "enable_thinking" in parameters:  # a field of hosted APIs; vLLM gives it to the chat template
        own = {"enable_thinking": parameters.pop("enable_thinking")}
        parameters["chat_template_kwargs"] = own | parameters.get("chat_template_kwargs", {})
    if "messages" in parameters:
        parameters["messages"] = [_without_nulls(message) for message in parameters["messages"]]
    return parameters


def _without_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    kept = {name: value for name, value in message.items() if value is not None}
    if isinstance(content, list):
        kept["content"] = [{k: v for k, v in part.items() if v is not None} for part in content]
    return kept
