"""Tiers that answer from another tier's engine: the same weights with another LoRA adapter, loaded once.

`engine_of` names the tier that runs the engine. Everything that the engine is started with is written there alone;
the tier that shares it has its own name, price, limits, settings and adapter, and so its own records, bill,
admission and certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from serve_graph.config.tiers.kinds import AnyTierConfig, EchoTierConfig, VllmTierConfig
from serve_graph.config.tiers.tier import TierConfig

ENGINE_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vllm": (
            "weights", "speculation", "engine_kwargs", "accelerator", "accelerator_type", "request_router",
            "placement_bundles", "env", "scaling",
        ),
        "echo": ("latency_s", "start_s", "skill", "scaling"),
    }
)  # fmt: skip
"""What belongs to an engine and not to a tier that it answers for, by the kind of engine."""


def filled_in(data: Any) -> Any:
    """The configuration as it was written, where every tier with `engine_of` has its engine's own settings too.

    Raises ValueError where a tier names an engine that there is not, or that it cannot share.
    """
    tiers = data.get("tiers") if isinstance(data, dict) else None
    if not isinstance(tiers, list | tuple) or not all(isinstance(tier, dict) for tier in tiers):
        return data
    named = {tier.get("name"): tier for tier in tiers}
    for tier in tiers:
        if (name := tier.get("engine_of")) is not None and (fault := _fault(tier, name, named)) is not None:
            raise ValueError(f"tier {tier.get('name')!r}: engine_of {name!r} {fault}")
    return data | {"tiers": [_filled_in(tier, named.get(tier.get("engine_of"))) for tier in tiers]}


def _fault(tier: Mapping[str, Any], name: Any, named: Mapping[Any, Mapping[str, Any]]) -> str | None:
    engine = named.get(name)
    if engine is None or name == tier.get("name"):
        return f"is not another tier; tiers: {list(named)}"
    if engine.get("engine") != tier.get("engine"):
        return f"is a tier of the engine {engine.get('engine')!r}, and this one of {tier.get('engine')!r}"
    if engine.get("engine_of") is not None:
        return f"shares an engine itself: name {engine['engine_of']!r}, which runs it"
    return None


def _filled_in(tier: Mapping[str, Any], engine: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if engine is None:
        return tier
    shared = {name: engine[name] for name in ENGINE_FIELDS.get(str(engine.get("engine")), ()) if name in engine}
    lora, own = engine.get("lora"), tier.get("lora")
    if isinstance(lora, Mapping) and isinstance(own, Mapping):
        tier = {**tier, "lora": {name: value for name, value in lora.items() if name != "adapter"} | dict(own)}
    return shared | dict(tier)


def check_engines(tiers: Sequence[AnyTierConfig], others: Sequence[TierConfig] = ()) -> None:
    """Raise ValueError where a tier says of an engine that it shares what is said otherwise at that engine.

    `others`, which are no tiers, share none.
    """
    for other in others:
        if other.engine_name != other.name:
            raise ValueError(f"{other.name!r}: engine_of is of `tiers`: embedders and verifiers share no engine")
    named = {tier.name: tier for tier in tiers}
    for tier in tiers:
        if not isinstance(tier, VllmTierConfig | EchoTierConfig) or tier.engine_of is None:
            continue
        engine, where = named.get(tier.engine_of), f"tier {tier.name!r}: engine_of {tier.engine_of!r}"
        if not isinstance(engine, type(tier)) or engine is tier or engine.engine_of is not None:
            raise ValueError(f"{where} is not another tier that runs an engine of its kind; tiers: {list(named)}")
        for name in ENGINE_FIELDS[tier.engine]:
            if getattr(tier, name) != getattr(engine, name):
                raise ValueError(f"{where}: `{name}` is that engine's, and is set there")
        if isinstance(tier, VllmTierConfig) and isinstance(engine, VllmTierConfig):
            _check_adapters(tier, engine, where)


def _check_adapters(tier: VllmTierConfig, engine: VllmTierConfig, where: str) -> None:
    if engine.lora is None:
        raise ValueError(f"{where} has no `lora`, which its engine needs for any adapter: give its loading_path there")
    if tier.lora is None or tier.lora.adapter is None:
        raise ValueError(f"{where}: name the adapter that this tier answers with (`lora: {{adapter: NAME}}`)")
    if tier.lora.model_copy(update={"adapter": engine.lora.adapter}) != engine.lora:
        raise ValueError(f"{where}: everything of `lora` but the adapter is that engine's, and is set there")


Tier = TypeVar("Tier", bound=TierConfig)


def engines_of(tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    """The tiers that run an engine of their own, in their order."""
    return tuple(tier for tier in tiers if tier.engine_name == tier.name)


def sharing(tiers: Sequence[AnyTierConfig], engine: str) -> tuple[AnyTierConfig, ...]:
    """The tiers that one tier's engine answers for, itself included."""
    return tuple(tier for tier in tiers if tier.engine_name == engine)
