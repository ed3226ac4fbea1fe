"""`policy.ensemble`: what it names must be there."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import EnsembleConfig, EnsembleOnlyConfig, JudgeConfig, pairwise

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
CRITIC = {"engine": "echo", "name": "critic", "price": PRICE}


def graph(ensemble: dict[str, Any], names: tuple[str, ...] = ("a", "b", "c"), **more: Any) -> GraphConfig:
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in names]
    policy = {"ensemble": ensemble, "safe_tier": names[-1]}
    return GraphConfig.model_validate({"tiers": tiers, "policy": policy, "verifiers": [CRITIC], **more})


def test_a_tier_or_a_verifier_model_picks() -> None:
    for judge, reward in (("b", None), ("reward:critic", "critic")):
        ensemble = graph({"judge": judge}).policy.ensemble
        assert ensemble is not None
        assert (ensemble.share, ensemble.reward, ensemble.streams) == (0.01, reward, "leave_out")


@pytest.mark.parametrize(
    ("ensemble", "said"),
    [
        ({}, "judge"),
        ({"judge": "d"}, "policy.ensemble.judge 'd' is not a tier, nor reward:NAME; tiers"),
        ({"judge": "critic"}, "policy.ensemble.judge 'critic' is not a tier"),
        ({"judge": "reward:other"}, "there is no such verifier model; of `verifiers`: critic"),
        ({"judge": "b", "tiers": ["a", "d"]}, "not a tier"),
        ({"judge": "b", "tiers": ["b", "a"]}, "the cheaper one first"),
        ({"judge": "b", "tiers": ["a", "a"]}, "two different tiers"),
        ({"judge": "b", "share": 1.5}, "less than or equal to 1"),
        ({"judge": "b", "streams": "show"}, "leave_out"),
        ({"judge": "b", "only": {"keys": []}}, "at least 1"),
        ({"judge": "b", "rate": 0.5}, "Extra inputs"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(ensemble: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        graph(ensemble)


def test_one_tier_is_no_ensemble() -> None:
    with pytest.raises(ValidationError, match=r"policy\.ensemble needs two tiers; there is a"):
        graph({"judge": "a"}, ("a",))


def test_which_requests_are_meant() -> None:
    only = EnsembleOnlyConfig(keys=("ann",), metadata={"experiment": ("x", "y")})
    assert only.meant("ann", {"experiment": "y", "task": "z"})
    assert not only.meant("bob", {"experiment": "y"})
    assert not only.meant(None, {"experiment": "y"})
    assert not only.meant("ann", {})
    assert EnsembleConfig(judge="b").only.meant(None, {})


def test_a_tier_is_asked_as_the_judge_is() -> None:
    judge = JudgeConfig(tier="a", max_tokens=9, decoding={"temperature": 1.0})
    asked = pairwise(judge, "b")
    assert (asked.tier, asked.mode, asked.max_tokens, asked.decoding) == ("b", "pairwise", 9, {"temperature": 1.0})
    assert pairwise(None, "b").prompt is None
