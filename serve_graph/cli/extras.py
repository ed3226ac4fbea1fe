"""What a command needs beyond the offline half, and what to install where it is missing: one table, one sentence.

`@needs` refuses before a command does any work. What a command meets only on its way (a router family that runs a
language model) fails as a ModuleNotFoundError, and `main` puts it into the same sentence.
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
"""Module → what it is called, and the extra that installs it."""

SERVING = ("ray", "fastapi", "openai", "httpx", "aiosqlite", "asyncpg")
"""What a running graph needs whatever its tiers are: the modules of the extra `serve`."""

INDEX: Mapping[str, str] = MappingProxyType({"cpu": " --extra-index-url https://download.pytorch.org/whl/cpu"})
"""What an extra needs beside PyPI: vLLM's CPU build pins PyTorch's."""


def needs(command: str, *modules: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Refuse `serve-graph COMMAND` (exit 2) before it begins where one of `modules` is not installed."""

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            require(f"`serve-graph {command}`", *modules)
            return function(*args, **kwargs)

        return checked

    return decorated


def require(who: str, *modules: str, extra: str | None = None) -> None:
    """Say on stderr what `who` needs and leave with exit 2, where one of `modules` is not installed.

    `extra` is the one to install where that depends on more than the module.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            typer.echo(f"serve-graph: {sentence(who, module, extra)}", err=True)
            raise typer.Exit(2)


def sentence(who: str, module: str, extra: str | None = None) -> str:
    """`serve-graph up` needs Ray Serve: pip install 'serve-graph[serve]'."""
    name, usual = EXTRA_OF[module]
    chosen = extra or usual
    return f"{who} needs {name}: pip install 'serve-graph[{chosen}]'{INDEX.get(chosen, '')}"


def need_vllm(config: GraphConfig) -> None:
    """Leave with exit 2 and what to install where a tier of `config` runs on vLLM, which is not installed."""
    from serve_graph.config.tiers import VllmTierConfig

    for tier in (*config.tiers, *config.embedders):
        if isinstance(tier, VllmTierConfig):
            require(f"tier {tier.name!r} of this configuration", "vllm", extra=vllm_extra(tier.accelerator))


def vllm_extra(accelerator: str) -> str:
    """The extra that installs vLLM's build for this accelerator."""
    return "cpu" if accelerator == "cpu" else "gpu"
