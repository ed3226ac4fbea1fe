"""Which extra installs what a command needs, and the message where it is missing.

`@needs` checks before a command does any work. A module that is missed later (a router family that runs a language
model) raises ModuleNotFoundError, for which `main` prints the same message.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig

P = ParamSpec("P")
T = TypeVar("T")

EXTRA_OF: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ray": ("Ray Serve", "serve"),
        "fastapi": ("FastAPI", "serve"),
        "openai": ("the openai client", "serve"),
        "httpx": ("httpx", "serve"),
        "aiosqlite": ("the decision store's drivers", "serve"),
        "asyncpg": ("the decision store's drivers", "serve"),
        "vllm": ("vLLM", "gpu"),
        "torch": ("PyTorch", "local-models"),
        "transformers": ("transformers", "local-models"),
        "gguf": ("gguf", "local-models"),
        "accelerate": ("accelerate", "local-models"),
    }
)
"""Module → its name in messages, and the extra that installs it."""

SERVING = ("ray", "fastapi", "openai", "httpx", "aiosqlite", "asyncpg")
"""The modules of the extra `serve`, which every running graph needs."""

INDEX: Mapping[str, str] = MappingProxyType({"cpu": " --extra-index-url https://download.pytorch.org/whl/cpu"})
"""What an extra needs besides PyPI: vLLM's CPU build requires PyTorch's index."""


def needs(command: str, *modules: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Refuse `serve-graph COMMAND` (exit 2) before it starts if one of `modules` is not installed."""

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            require(f"`serve-graph {command}`", *modules)
            return function(*args, **kwargs)

        return checked

    return decorated


def require(who: str, *modules: str, extra: str | None = None) -> None:
    """Exit with 2 and a message on stderr if one of `modules` is not installed; `who` is what needs it.

    `extra` names the extra to install where it does not follow from the module alone.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            typer.echo(f"serve-graph: {sentence(who, module, extra)}", err=True)
            raise typer.Exit(2)


def sentence(who: str, module: str, extra: str | None = None) -> str:
    """Return the message, e.g. "`serve-graph up` needs Ray Serve: pip install 'serve-graph[serve]'"."""
    name, usual = EXTRA_OF[module]
    chosen = extra or usual
    return f"{who} needs {name}: pip install 'serve-graph[{chosen}]'{INDEX.get(chosen, '')}"


def need_vllm(config: GraphConfig) -> None:
    """Exit with 2 and what to install if a tier of `config` uses vLLM and vLLM is not installed."""
    from serve_graph.config.tiers.kinds import VllmTierConfig

    for tier in config.every_tier:
        if isinstance(tier, VllmTierConfig):
            require(f"tier {tier.name!r} of this configuration", "vllm", extra=vllm_extra(tier.accelerator))


def vllm_extra(accelerator: str) -> str:
    """Return the extra that installs vLLM's build for this accelerator."""
    return "cpu" if accelerator == "cpu" else "gpu"
