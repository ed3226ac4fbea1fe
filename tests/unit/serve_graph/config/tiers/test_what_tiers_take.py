"""What each kind of tier is taken to take, how long and of which kinds, and what `doctor` says of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.cli.local.doctor import examine
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.capabilities import MODALITIES, capabilities_of

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
WEIGHTS = {"package": "smollm2-135m-instruct"}


def config_of(*tiers: dict[str, Any]) -> GraphConfig:
    named = [{"name": f"t{i}", "price": PRICE, **tier} for i, tier in enumerate(tiers)]
    return GraphConfig.model_validate({"tiers": named, "policy": {"version": "none", "safe_tier": "t0"}})


@pytest.mark.parametrize("given", [None, 4_096])
def test_a_hosted_tier_without_context_tokens_is_unbounded(given: int | None) -> None:
    [tier] = config_of({"engine": "openai", "model": "m", "context_tokens": given}).tiers
    assert tier.context_limit == given


@pytest.mark.parametrize(
    ("own", "engines_own", "limit"),
    [(None, None, None), (None, 4_096, 4_096), (8_192, 4_096, 4_096), (2_048, 4_096, 2_048), (None, "auto", None)],
)
def test_a_vllm_tier_is_held_to_its_engines_own_limit(own: int | None, engines_own: Any, limit: int | None) -> None:
    kwargs = {} if engines_own is None else {"max_model_len": engines_own}
    [tier] = config_of({"engine": "vllm", "weights": WEIGHTS, "context_tokens": own, "engine_kwargs": kwargs}).tiers
    assert tier.context_limit == limit


def test_an_echo_tier_has_the_2048_that_its_engine_refuses_beyond() -> None:
    [tier] = config_of({"engine": "echo"}).tiers
    assert tier.context_limit == 2_048


def test_doctor_warns_of_tiers_whose_context_is_not_known() -> None:
    def found(*tiers: dict[str, Any]) -> str:
        [context] = [finding for finding in examine(config_of(*tiers)) if finding.check == "contexts"]
        assert context.ok
        return context.detail

    hosted = {"engine": "openai", "model": "m"}
    assert found({"engine": "echo"}, {**hosted, "context_tokens": 9_000}) == "tokens: t0 2048, t1 9000"
    assert found({"engine": "echo"}, hosted).startswith("warning: no context_tokens for t1,")


TEXT = {"text", "json_schema", "reasoning"}
VLLM = {"engine": "vllm", "weights": WEIGHTS}
CALLS = {"engine_kwargs": {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"}}


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        ({"engine": "openai", "model": "m"}, {*TEXT, "tools"}),
        ({"engine": "openai", "model": "m", "tools": False, "json_schema": False, "reasoning": False}, {"text"}),
        (
            {"engine": "openai", "model": "m", "modalities": ["text", "image", "file"]},
            {*TEXT, "tools", "image", "file"},
        ),
        (VLLM, TEXT),
        (VLLM | CALLS, {*TEXT, "tools"}),
        (VLLM | {"tools": True}, {*TEXT, "tools"}),
        (VLLM | CALLS | {"tools": False}, TEXT),
        ({"engine": "echo"}, {*TEXT, "tools"}),
    ],
)
def test_a_tier_takes_text_and_what_it_declares(given: dict[str, Any], takes: set[str]) -> None:
    [tier] = config_of(given).tiers
    assert tier.capabilities == takes


def test_only_the_last_tier_is_asked_for_what_no_tier_declares_and_only_unless_it_says_that_it_does_not() -> None:
    hosted, text = {"engine": "openai", "model": "m"}, {"modalities": ["text"]}
    silent, said = config_of(hosted, hosted).tiers, config_of(hosted, hosted | text).tiers
    assert [capabilities_of(silent)[name] & MODALITIES for name in ("t0", "t1")] == [frozenset(), MODALITIES]
    assert [capabilities_of(said)[name] & MODALITIES for name in ("t0", "t1")] == [frozenset(), frozenset()]


@pytest.mark.parametrize("wrong", [[], ["image"], ["text", "text"], ["text", "smell"], "text"])
def test_modalities_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="modalities"):
        config_of({"engine": "echo", "modalities": wrong})


def test_doctor_lists_what_every_tier_takes() -> None:
    config = config_of({"engine": "echo", "tools": False}, {"engine": "echo", "modalities": ["text", "image"]})
    [found] = [finding for finding in examine(config) if finding.check == "capabilities"]
    assert found.detail == "t0: json_schema, reasoning, text; t1: image, json_schema, reasoning, text, tools"
