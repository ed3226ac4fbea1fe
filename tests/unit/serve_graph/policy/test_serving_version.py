"""Which version serves, and what is said where none can."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from mlflow import MlflowClient

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.data.starter import STARTER_OUTCOMES
from router_models.types import Outcome, Usage
from router_models.versions.registry import RegisteredVersion, find_version, set_tags
from router_models.versions.review import review_state
from serve_graph.cli.serve import banner
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.policy import serving_version as versions
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from serve_graph.policy.serving_version import ensure_first_version, serving_version

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


def local(tmp_path: Path, **policy: Any) -> GraphConfig:
    context = load_config(CONFIGS / "local.yaml", state_folder=tmp_path)
    return context.model_copy(update={"policy": context.policy.model_copy(update=policy)})


@pytest.fixture
def few_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped outcomes, cut to 160 prompts, in the place of the whole."""
    table = pd.read_parquet(STARTER_OUTCOMES)
    some = table["prompt_id"].drop_duplicates().sample(160, random_state=0)
    path = tmp_path / "outcomes.parquet"
    table[table["prompt_id"].isin(some)].to_parquet(path)
    shutil.copy(f"{STARTER_OUTCOMES}.binds.json", f"{path}.binds.json")
    monkeypatch.setattr(versions, "STARTER_OUTCOMES", path)
    return path


def test_without_a_version_the_last_tier_answers_and_the_banner_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = local(tmp_path)
    served = serving_version(context)
    assert (served.version, served.name) == (None, "none")
    assert "the registry holds no serve-graph-router@stable" in served.reason
    ready = {"ready": True, "version": served.name, "promise": served.reason, "tier_faults": {}}
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, json=ready))
    text = banner(context, "http://127.0.0.1:1", None)
    assert "always frontier" in text
    assert served.reason in text
    assert "prefix:" not in text


def test_the_banner_of_a_graph_that_tells_keys_only_is_worked_out_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, json={"status": "ready", "ready": True}))
    assert "the registry holds no serve-graph-router@stable" in banner(local(tmp_path), "http://127.0.0.1:1", None)


def test_the_banner_says_what_is_promised_of_streams_shown_by_their_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise = "P(wrong | cheap accepted by its first 4 tokens) <= 0.20"
    ready = {"ready": True, "version": "router/1", "promise": "the main one", "prefixes": {"cheap": promise}}
    ready |= {"tier_faults": {}}
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, json=ready))
    assert f" prefix:   {promise}" in banner(local(tmp_path), "http://127.0.0.1:1", None)


def test_nothing_certifiable_says_how_many_labels_are_missing_and_registers_nothing(
    tmp_path: Path, few_outcomes: Path
) -> None:
    said: list[str] = []
    context = local(tmp_path, epsilon=0.02)
    reason = ensure_first_version(context, said.append, budget_s=None)
    assert reason is not None
    assert "more" in reason
    assert any(word.isdigit() for word in reason.replace(",", "").split())
    assert serving_version(context).version is None
    assert any("training the first one" in line for line in said)


@pytest.fixture
def easy_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GraphConfig:
    """A graph of two echo tiers, and in the place of the shipped outcomes a table of theirs that certifies."""
    tiers = [
        {"engine": "echo", "name": name, "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd}}
        for name, usd in (("cheap", 0.1), ("frontier", 2))
    ]
    policy = {"epsilon": 0.3, "allow_loss": True}
    graph = GraphConfig.model_validate({"tiers": tiers, "policy": policy, "state_folder": tmp_path / "state"})
    said = ((" It", " is", " quite", " a", " brown", " one"), (-0.1,) * 6)
    outcomes = [
        Outcome(
            prompt_id(prompt),
            prompt,
            tier,
            "It is quite a brown one",
            grade,
            Usage(10, 6),
            0.01,
            "stop",
            {},
            {},
            *said,
        )
        for i in range(1000, 1400)
        for prompt in (f"What colour is cat {i}?",)
        for tier, grade in (("cheap", float(i % 25 > 0)), ("frontier", 1.0))
    ]
    write_outcomes(tmp_path / "easy.parquet", outcomes)
    write_collected_binds(tmp_path / "easy.parquet", tier_binds(graph))
    monkeypatch.setattr(versions, "STARTER_OUTCOMES", tmp_path / "easy.parquet")
    return graph


def test_the_first_version_is_approved_by_the_first_start_and_none_is_made_in_the_place_of_a_rejected_one(
    easy_outcomes: GraphConfig,
) -> None:
    assert ensure_first_version(easy_outcomes, lambda _: None, budget_s=None) is None
    assert serving_version(easy_outcomes).name == "serve-graph-router/1"
    made = find_version(easy_outcomes.registry_uri, "serve-graph-router", "1")
    assert made is not None
    assert review_state(made).line().startswith("approved by: first start, ")
    set_tags(made.uri, made.model, made.number, {"review": "rejected"})
    assert "was rejected in review" in serving_version(easy_outcomes).reason
    drop_alias(made)
    reason = ensure_first_version(easy_outcomes, lambda _: pytest.fail("trained"))
    assert reason is not None
    assert "none of them is `stable`" in reason


def drop_alias(version: RegisteredVersion) -> None:
    """As in MLflow's page."""
    MlflowClient(version.uri, version.uri).delete_registered_model_alias(version.model, "stable")


def test_outcomes_of_other_engines_are_not_passed_off_as_these(tmp_path: Path) -> None:
    context = local(tmp_path)
    cheap = context.tiers[0].model_copy(update={"decoding": {"temperature": 0.7}})
    reason = ensure_first_version(context.model_copy(update={"tiers": (cheap, context.tiers[1])}), lambda _: None)
    assert reason is not None
    assert "other models or engine flags" in reason


@pytest.mark.parametrize("version", ["none", "builtin"])
def test_a_configuration_that_asks_for_no_learned_version_trains_none(tmp_path: Path, version: str) -> None:
    assert ensure_first_version(local(tmp_path, version=version), lambda _: pytest.fail("trained")) is None


def test_an_alias_nobody_set_is_not_trained_for(tmp_path: Path) -> None:
    reason = ensure_first_version(local(tmp_path, version="canary"), lambda _: None)
    assert reason is not None
    assert "`stable` only" in reason
