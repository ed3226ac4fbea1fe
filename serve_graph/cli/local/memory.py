"""How much of this machine's memory a configuration wants. Pure arithmetic on what its tiers are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers import VllmTierConfig, WeightsConfig
from serve_graph.engines.weights.resolve import PACKAGED
from serve_graph.errors import ConfigError

GRAPH_GIB = 2.0
"""Ray, the proxy, ingress, router and verifier, replicas of hosted and echo tiers: processes without a model."""
ENGINE_GIB = 2.0
"""A CPU engine's own processes (torch, vLLM, activations), beside its weights and its KV cache."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Wanted:
    """Gibibytes by what wants them, and hub models whose weights come on top, their size not being known here."""

    parts: dict[str, float]
    unknown: tuple[str, ...] = ()

    @property
    def gib(self) -> float:
        return sum(self.parts.values())

    def text(self) -> str:
        """`about 11.7 GiB (the graph 2, cheap 3.3, frontier 6.4)`."""
        named = ", ".join(f"{name} {gib:.3g}" for name, gib in self.parts.items())
        more = "".join(f", and the weights of {hub}" for hub in self.unknown)
        return f"about {self.gib:.3g} GiB ({named}){more}"


def wanted(config: GraphConfig) -> Wanted:
    """What start-up needs. Weights and caches of engines on accelerators lie there, and hosted ones elsewhere.

    A CPU engine's cache is counted where the configuration sets it; left to itself vLLM takes what is there. Raises
    ConfigError where what it is set to is no number.
    """
    parts, unknown = {"the graph": GRAPH_GIB}, []
    for tier in (*config.tiers, *config.embedders):
        if not isinstance(tier, VllmTierConfig) or tier.accelerator != "cpu":
            continue
        weights = _weights_gib(tier.weights)
        if weights is None:
            unknown.append(str(tier.weights.hub))
        each = ENGINE_GIB + (weights or 0.0) + _cache_gib(tier)
        parts[tier.name] = each * max(1, tier.scaling.min_replicas)
    return Wanted(parts, tuple(unknown))


def _weights_gib(weights: WeightsConfig) -> float | None:
    if weights.package is not None:
        model = PACKAGED.get(weights.package)
        return model.gib if model else 0.0  # that it is not known is another check's to say
    if weights.folder is not None:
        return sum(file.stat().st_size for file in weights.folder.glob("*.safetensors")) / GIB
    return None


def _cache_gib(tier: VllmTierConfig) -> float:
    """vLLM's two ways of saying it, the environment's first as vLLM reads them; 0 where neither is set."""
    said = (("VLLM_CPU_KVCACHE_SPACE", tier.env, 1), ("kv_cache_memory_bytes", tier.engine_kwargs, GIB))
    for name, where, unit in said:
        if gib := _number(f"tier {tier.name!r}: {name}", where.get(name)) / unit:
            return gib
    return 0.0


def _number(name: str, value: Any) -> float:
    """A configured amount, 0 where there is none; vLLM takes whole numbers alone."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value or 0).strip()
    if not text.isdecimal():
        raise ConfigError(f"{name}: {value!r} is not a number that vLLM takes: a whole one, without a unit")
    return float(text)


def available_gib(cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """This machine's memory, or the container's limit (cgroup v2, else v1) where that is less."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([pages, *_limits(cgroups)]) / GIB


def _limits(cgroups: Path) -> list[int]:
    """Bytes; none where no limit is set or to be read: v2 says `max` then, v1 a number beyond any machine."""
    limits = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroups / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return limits
