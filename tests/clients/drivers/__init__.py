"""One module a client library, each with the same methods: what its users write, in its own words.

A driver's `chat`, `stream`, `tools`, `streamed_tools`, `structured` and `image` ask one thing each and return what the
client made of the reply. `tools` and `streamed_tools` return the calls and, once their results were sent back, the
answer (None where the client has no such loop).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar


class Driver:
    """What the drivers say of their clients."""

    package: ClassVar[str]
    """Its name in the lock."""
    unknown_model: ClassVar[type[Exception]]
    wrong_key: ClassVar[type[Exception]]
    """The exceptions that it raises."""
    runs_tools: ClassVar[bool] = False
    """Whether it runs tools by itself: then a streamed loop streams every answer, not the first alone."""


CLIENTS: Mapping[str, tuple[str, str, dict[str, Any]]] = MappingProxyType(
    {
        "openai": ("openai", "OpenAIChat", {}),
        "openai responses": ("openai", "OpenAIResponses", {}),
        "openai-agents": ("agents", "AgentsSdk", {"responses": False}),
        "openai-agents responses": ("agents", "AgentsSdk", {"responses": True}),
        "langchain": ("langchain", "LangChain", {"responses": False}),
        "langchain responses": ("langchain", "LangChain", {"responses": True}),
        "pydantic-ai": ("pydantic_ai", "PydanticAI", {"responses": False}),
        "pydantic-ai responses": ("pydantic_ai", "PydanticAI", {"responses": True}),
        "litellm": ("litellm", "LiteLLM", {}),
        "llama-index": ("llama_index", "LlamaIndex", {}),
        "instructor": ("instructor", "Instructor", {}),
        "anthropic": ("anthropic", "AnthropicMessages", {}),
    }
)
"""Name → module, class and its arguments."""


def driver(name: str) -> Any:
    """Return the driver of a client; raises ModuleNotFoundError where the client is not installed."""
    module, kind, arguments = CLIENTS[name]
    return getattr(import_module(f"{__name__}.{module}"), kind)(**arguments)
