"""Verifier models in the configuration: what they are, what is none, and what a certificate is bound to of them."""

from pathlib import Path
from typing import Any

import pytest

from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.kubernetes.graph_settings import hosted_apis
from serve_graph.engines.scores import Scoring
from serve_graph.errors import ConfigError
from serve_graph.policy.bindings import asked_settings
from tests.contract.test_every_configuration import ECHO, written

PRICE = {"input_usd_per_mtok": "0.1", "output_usd_per_mtok": 0}
CRITIC: dict[str, Any] = {"name": "critic", "engine": "echo", "price": PRICE}
REMOTE: dict[str, Any] = {
    "name": "critic", "engine": "openai", "price": PRICE, "model": "m", "base_url": "http://reward:8000",
}  # fmt: skip
VLLM: dict[str, Any] = {"name": "critic", "engine": "vllm", "price": PRICE, "weights": {"hub": "a/reward"}}


def graph(*verifiers: dict[str, Any], **more: Any) -> GraphConfig:
    return GraphConfig.model_validate(ECHO | {"verifiers": list(verifiers)} | more)


@pytest.mark.parametrize("given", [CRITIC, REMOTE, VLLM], ids=lambda given: given["engine"])
def test_a_verifier_model_is_found_by_name_and_is_no_tier(given: dict[str, Any]) -> None:
    config = graph(given)
    assert config.tier("critic").name == "critic"
    assert config.tier_names == ("cheap", "frontier")
    assert config.asked_names == ("cheap", "frontier", "critic")
    assert Scoring.of(config.verifiers[0]) == Scoring("classify")


def test_how_it_is_asked_follows_from_what_it_reads() -> None:
    read = [Scoring.of(graph(one).verifiers[0]) for one in (
        CRITIC | {"label": 1}, VLLM | {"reads": "pair"}, REMOTE | {"reads": "pair", "route": "rerank"},
    )]  # fmt: skip
    assert read == [Scoring("classify", 1), Scoring("score"), Scoring("rerank")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (CRITIC | {"name": "cheap"}, "tier names must differ"),
        (CRITIC | {"name": "verifier"}, "reserved"),
        (CRITIC | {"reads": "pair", "label": 0}, "a model that reads pairs has one score"),
        (CRITIC | {"embeddings": True}, "embeddings: not of a verifier model"),
        (VLLM | {"speculation": {"method": "ngram"}}, "speculation: not of a verifier model"),
        (CRITIC | {"price_changes": [PRICE | {"valid_from": "2027-01-01T00:00:00Z"}]}, "price_changes: not of a"),
        (REMOTE | {"base_url": None}, "needs the `base_url` of a server that scores"),
        (REMOTE | {"api": "anthropic"}, "no `api: anthropic`"),
        (CRITIC | {"reads": "answers"}, "conversation"),
        (CRITIC | {"colour": "blue"}, "colour"),
    ],
)
def test_what_is_no_verifier_model_is_refused_by_name(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(written(tmp_path, ECHO | {"verifiers": [given]}))


def test_requests_cannot_be_aliased_to_a_verifier_model(tmp_path: Path) -> None:
    given = ECHO | {"verifiers": [CRITIC], "models": {"aliases": {"small": "critic"}}}
    with pytest.raises(ConfigError, match="'critic' one of auto, cheap, frontier"):
        load_config(written(tmp_path, given))


@pytest.mark.parametrize(
    "changed",
    [
        {"label": 1}, {"reads": "pair"}, {"skill": 0.5}, {"price": PRICE | {"input_usd_per_mtok": "0.2"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_score_is_bound_to_what_it_depends_on(changed: dict[str, Any]) -> None:
    from router_models.estimators.asked_signals import question_digest

    first, other = (asked_settings(graph(one)) for one in (CRITIC, CRITIC | changed))
    assert question_digest("reward:critic", first) != question_digest("reward:critic", other)
    assert question_digest("p_true", first) == question_digest("p_true", other)
    assert question_digest("reward:critic", first) == question_digest("reward:critic", asked_settings(graph(CRITIC)))


def test_keys_of_its_api_are_among_the_secrets_of_a_cluster() -> None:
    (api,) = hosted_apis(graph(REMOTE | {"api_key_env": "REWARD_KEY"}))
    assert api.api_key_env == "REWARD_KEY"
