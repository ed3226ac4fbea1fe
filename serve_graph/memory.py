"""How much of this machine's memory a configuration wants. Pure arithmetic on what its tiers are."""

from __future__ import annotations

from dataclasses import dataclass

from serve_graph.config import GraphConfig
from serve_graph.engines.weights import PACKAGED
from serve_graph.tiers import VllmTierConfig, WeightsConfig

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

    A CPU engine's cache is counted where the configuration sets it; left to itself vLLM takes what is there.
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
    """vLLM's two ways of saying it, the environment's first as vLLM reads them."""
    space = tier.env.get("VLLM_CPU_KVCACHE_SPACE", "")
    return float(space) if space.isdecimal() else float(tier.engine_kwargs.get("kv_cache_memory_bytes") or 0) / GIB
