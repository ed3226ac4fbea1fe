"""Estimate how much of this machine's memory a configuration needs. Pure arithmetic on its tiers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights.resolve import PACKAGED
from serve_graph.errors import ConfigError

GRAPH_GIB = 2.0
"""Processes without a model, in GiB: Ray, proxy, ingress, router, verifier, replicas of hosted and echo tiers."""
ENGINE_GIB = 2.0
"""A CPU engine's processes (torch, vLLM, activations), besides its weights and KV cache, in GiB."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Needed GiB by part, and hub models whose weights come on top because their size is unknown here."""

    parts: dict[str, float]
    unknown: tuple[str, ...] = ()

    @property
    def gib(self) -> float:
        return sum(self.parts.values())

    def text(self) -> str:
        """Format as `about 11.7 GiB (the graph 2, cheap 3.3, frontier 6.4)`."""
        named = ", ".join(f"{name} {gib:.3g}" for name, gib in self.parts.items())
        more = "".join(f", and the weights of {hub}" for hub in self.unknown)
        return f"about {self.gib:.3g} GiB ({named}){more}"


def memory_needed(config: GraphConfig) -> MemoryNeed:
    """Return what start-up needs; engines on accelerators and hosted tiers need no memory of this machine.

    A CPU engine's cache is counted if the configuration sets its size; otherwise vLLM uses what is available. Raises
    ConfigError if the size is not a number.
    """
    parts, unknown = {"the graph": GRAPH_GIB}, []
    for tier in config.every_tier:
        if not isinstance(tier, VllmTierConfig) or tier.accelerator != "cpu" or tier.engine_name != tier.name:
            continue
        weights = _weights_gib(tier.weights)
        if weights is None:
            unknown.append(str(tier.weights.hub))
        each = ENGINE_GIB + (weights or 0.0) + _cache_gib(tier)
        parts[tier.name] = each * max(1, tier.scaling.min_replicas)
    return MemoryNeed(parts, tuple(unknown))


def _weights_gib(weights: WeightsConfig) -> float | None:
    if weights.package is not None:
        model = PACKAGED.get(weights.package)
        return model.gib if model else 0.0  # another check reports unknown packages
    if weights.folder is not None:
        return sum(file.stat().st_size for file in weights.folder.glob("*.safetensors")) / GIB
    return None


def _cache_gib(tier: VllmTierConfig) -> float:
    """Return the KV cache size from vLLM's two settings, the environment first as in vLLM; 0 if neither is set."""
    settings = (("VLLM_CPU_KVCACHE_SPACE", tier.env, 1), ("kv_cache_memory_bytes", tier.engine_kwargs, GIB))
    for name, where, unit in settings:
        if gib := _number(f"tier {tier.name!r}: {name}", where.get(name)) / unit:
            return gib
    return 0.0


def _number(name: str, value: Any) -> float:
    """Parse a configured amount, 0 if there is none; vLLM accepts whole numbers only."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value or 0).strip()
    if not text.isdecimal():
        raise ConfigError(f"{name}: {value!r} is not a number that vLLM takes: use a whole number without a unit")
    return float(text)


def available_gib(cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return this machine's memory, or the container's limit (cgroup v2, else v1) if that is smaller."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([pages, *_limits(cgroups)]) / GIB


def _limits(cgroups: Path) -> list[int]:
    """Return the limits in bytes; empty if none is set or readable: v2 then says `max`, v1 an oversized number."""
    limits = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroups / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return limits
