"""The configuration of the judge: off unless it is there, and refused where it could not work."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import JudgeConfig, judge_source

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ECHO = {"name": "cheap", "engine": "echo", "price": PRICE}
HOSTED = {
    "name": "frontier",
    "engine": "openai",
    "model": "big model",
    "base_url": "https://api.test/v1",
    "price": PRICE,
}
SEVERAL = {
    "name": "frontier",
    "engine": "openai",
    "price": PRICE,
    "deployments": [{"name": name, "model": model} for name, model in (("a", "m1"), ("b", "m2"), ("c", "m1"))],
}
VLLM = {"name": "frontier", "engine": "vllm", "weights": {"hub": "org/model"}, "price": PRICE}
LORA = VLLM | {"lora": {"loading_path": "/adapters", "adapter": "law"}, "weights": {"folder": "/models/own"}}


def graph(last: dict[str, Any] | None = None, **settings: Any) -> GraphConfig:
    return GraphConfig.model_validate({"tiers": [ECHO, last or {**ECHO, "name": "frontier"}], **settings})


def test_nobody_judges_unless_it_is_configured() -> None:
    assert graph().judge is None


def test_a_judge_is_a_tier_that_there_is() -> None:
    assert graph(judge={"tier": "frontier"}).judge == JudgeConfig(tier="frontier")
    with pytest.raises(ValidationError, match=r"judge.tier 'critic' is not a tier; tiers: \['cheap', 'frontier'\]"):
        graph(judge={"tier": "critic"})


def test_a_rate_is_one_for_all_or_one_for_each_outcome() -> None:
    one, each = JudgeConfig(tier="cheap"), JudgeConfig(tier="cheap", rate={"accepted": 0.2, "routed": 0.0})
    assert {route: one.rate_of(route) for route in ("accepted", "forced", "abstained")} == {
        "accepted": 0.05,
        "forced": 0.05,
        "abstained": 0.0,
    }
    assert [each.rate_of(route) for route in ("accepted", "routed", "forced")] == [0.2, 0.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 1.5},
        {"rate": {"abstained": 0.1}},
        {"rate": {"accepted": 2}},
        {"mode": "both"},
        {"budget_usd_per_day": -1},
        {"concurrency": 0},
        {"prompt": "{question} {answer}"},
        {"prompt": "{question} {answer} {nonce}", "mode": "pairwise"},
        {"colour": "blue"},
    ],
)
def test_what_could_not_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JudgeConfig.model_validate({"tier": "cheap", **wrong})


@pytest.mark.parametrize(
    ("tier", "source"),
    [
        (ECHO | {"name": "frontier"}, "judge:frontier/echo"),
        (HOSTED, "judge:frontier/big-model"),
        (SEVERAL, "judge:frontier/m1+m2"),
        (VLLM, "judge:frontier/org/model"),
        (LORA, "judge:frontier/own:law"),
        (HOSTED | {"model": "m" * 500}, ("judge:frontier/" + "m" * 500)[:200]),
    ],
)
def test_its_labels_name_the_tier_and_its_model(tier: dict[str, Any], source: str) -> None:
    assert judge_source(graph(tier).tier("frontier")) == source


def test_golden_tasks_are_asked_of_hosted_tiers_unless_others_are_named() -> None:
    assert graph(HOSTED).golden_tiers == ()
    assert graph(HOSTED, golden={}).golden_tiers == ("frontier",)
    assert graph(golden={"tiers": ["cheap"]}).golden_tiers == ("cheap",)
    with pytest.raises(ValidationError, match=r"golden.tiers 'critic' is not a tier"):
        graph(golden={"tiers": ["critic"]})
    with pytest.raises(ValidationError, match=r"golden\.tasks: kept needs records\.keep_prompts"):
        graph(golden={"tasks": "kept"})
    assert graph(golden={"tasks": "kept"}, records={"keep_prompts": True}).golden is not None
