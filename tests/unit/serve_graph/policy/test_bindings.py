from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.data.starter import STARTER_OUTCOMES
from router_models.errors import CertificateError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import OperatingPoint
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.policy.bindings import (
    check_certificate,
    collected_binds,
    tier_binds,
    tier_prices,
    write_collected_binds,
)
from serve_graph.policy.serving_version import serving_version

MADE = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = MADE + timedelta(days=10)
TIER: dict[str, Any] = {
    "engine": "vllm",
    "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
    "weights": {"hub": "org/model"},
    "engine_kwargs": {"dtype": "bfloat16", "seed": 0},
    "speculation": {"method": "ngram", "num_speculative_tokens": 4},
    "decoding": {"temperature": 0.0},
}


def config(names: tuple[str, ...] = ("cheap", "frontier"), **cheap: Any) -> GraphConfig:
    tiers = [TIER | {"name": name} | (cheap if name == "cheap" else {}) for name in names]
    return GraphConfig.model_validate({"tiers": tiers})


def certified(context: GraphConfig, **fields: Any) -> RouterVersion:
    """A version whose certificate was made for exactly this graph."""
    bare = RouterVersion(
        Policy(context.tier_names, {"cheap": OperatingPoint(0.5, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
    )
    values: dict[str, Any] = {
        "what": ACCEPTED_RISK,
        "epsilon": 0.1,
        "delta": 0.1,
        "level": 0.1,
        "n": 300,
        "accepted_n": 200,
        "errors": 9,
        "upper": 0.08,
        "threshold": 0.5,
        "label_source": LabelSource.PROGRAMMATIC,
        "made_at": MADE,
        "expires_at": MADE + timedelta(days=90),
        "binds": {**tier_binds(context), **bare.binds(tier_prices(context))},
    }
    return RouterVersion(bare.policy, bare.stages, Certificate(**values | fields), "router/1")


def fault(version: RouterVersion, context: GraphConfig, now: datetime = TODAY) -> str:
    with pytest.raises(CertificateError) as caught:
        check_certificate(version, context, now)
    return str(caught.value)


def test_a_certificate_holds_for_the_graph_it_was_made_for() -> None:
    check_certificate(certified(config()), config(), TODAY)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 3}}, "prices"),
        ({"price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "cached_input_usd_per_mtok": 0}}, "prices"),
        ({"weights": {"hub": "org/other"}}, "cheap.weights"),
        ({"weights": {"package": "smollm2-135m-instruct"}}, "cheap.weights"),
        ({"engine_kwargs": {"dtype": "float32", "seed": 0}}, "cheap.engine"),
        ({"engine_kwargs": {"dtype": "bfloat16", "seed": 0, "enforce_eager": True}}, "cheap.engine"),
        ({"speculation": None}, "cheap.engine"),
        ({"speculation": {"method": "ngram", "num_speculative_tokens": 5}}, "cheap.engine"),
        ({"decoding": {"temperature": 0.7}}, "cheap.decoding"),
        ({"decoding": {}}, "cheap.decoding"),
        ({"default_max_tokens": 4}, "cheap.decoding"),
        ({"accelerator": "cpu"}, "cheap.engine"),
        ({"accelerator_type": "L4"}, "cheap.engine"),
        ({"env": {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}}, "cheap.engine"),
        ({"weights": {"hub": "org/model", "revision": "b" * 40}}, "cheap.weights"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_whatever_changed_since_is_named_and_nothing_else(change: dict[str, Any], name: str) -> None:
    message = fault(certified(config()), config(**change))
    assert f"{name} changed" in message
    assert message.count("changed (") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"scaling": {"max_replicas": 3}},
        {"timeout_s": 5},
        {"env": {"HF_TOKEN": "rotated", "AWS_SECRET_ACCESS_KEY": "rotated"}},
        {"engine_kwargs": {"seed": 0, "dtype": "bfloat16"}},
    ],
    ids=str,
)
def test_what_does_not_change_answers_does_not_void_it(change: dict[str, Any]) -> None:
    check_certificate(certified(config()), config(**change), TODAY)


@pytest.mark.parametrize(
    "given",
    [
        {"enable_auto_tool_choice": True},
        {"tool_call_parser": "hermes"},
        {"tool_parser_plugin": "parsers.py"},
        {"reasoning_parser": "qwen3"},
        {"structured_outputs_config": {"backend": "outlines"}},
        {"chat_template": "{{ messages }}"},
        {"tokenizer": "org/other"},
        {"tokenizer_revision": "c" * 40},
        {"tokenizer_mode": "slow"},
        {"revision": "c" * 40},
        {"code_revision": "c" * 40},
        {"quantization": "fp8"},
        {"kv_cache_dtype": "fp8"},
        {"max_model_len": 512},
        {"generation_config": "vllm"},
        {"override_generation_config": {"temperature": 0.9}},
        {"hf_overrides": {"rope_scaling": None}},
        {"logits_processors": ["a.b:C"]},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 5}},
        {"lora_modules": [{"name": "a", "path": "org/adapter"}]},
    ],
    ids=str,
)
def test_every_argument_of_the_engine_is_bound(given: dict[str, Any]) -> None:
    before, after = (tier_binds(config(speculation=None, engine_kwargs=kwargs)) for kwargs in ({}, given))
    assert {name for name in before if before[name] != after[name]} == {"cheap.engine"}


def test_what_a_section_makes_of_the_arguments_is_bound() -> None:
    def lora(rank: int) -> dict[str, Any]:
        return {"lora": {"loading_path": "s3://bucket", "adapter": "a", "max_rank": rank}}

    assert tier_binds(config(**lora(8)))["cheap.engine"] != tier_binds(config(**lora(16)))["cheap.engine"]


def test_a_template_or_a_draft_model_counts_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    def binds(place: str, template: str, tokenizer: str) -> str:
        draft, file = tmp_path / place / "draft", tmp_path / place / "t.jinja"
        draft.mkdir(parents=True, exist_ok=True)
        (draft / "tokenizer.json").write_text(tokenizer)
        file.write_text(template)
        given = {"speculation": {"method": "draft_model", "model": str(draft)}}
        graph = config(**given, engine_kwargs={"chat_template": str(file)})
        return tier_binds(graph.model_copy(update={"state_folder": tmp_path / "state"}))["cheap.engine"]

    first = binds("here", "{{ a }}", "{}")
    assert binds("elsewhere", "{{ a }}", "{}") == first
    assert binds("here", "{{ b }}", "{}") != first
    assert binds("here", "{{ a }}", '{"x": 1}') != first
    assert binds("here", "{{ a }}", "{}") == first


def test_headers_are_bound_and_the_credentials_among_them_are_not() -> None:
    def binds(**headers: str) -> str:
        hosted = {"engine": "openai", "name": "frontier", "model": "m", "price": TIER["price"], "headers": headers}
        tiers = [TIER | {"name": "cheap"}, hosted]
        return tier_binds(GraphConfig.model_validate({"tiers": tiers}))["frontier.engine"]

    plain = binds()
    assert binds(beta="long") not in (plain, binds(beta="longer"))
    assert binds(**{"api-key": "a", "X-Auth-Token": "b", "Authorization": "c", "cookie": "d"}) == plain


def test_other_models_in_the_version_void_it() -> None:
    version = certified(config())
    other = {"cheap": Stage(ConstantRouter(0.8), None, NonEmptyVerifier(), None)}
    assert "models changed" in fault(RouterVersion(version.policy, other, version.certificate), config())


@pytest.mark.parametrize("point", [OperatingPoint(0.4, 0.5), OperatingPoint(0.5, 0.4), OperatingPoint(0.5, 0.5, 0.1)])
def test_other_thresholds_than_were_certified_void_it(point: OperatingPoint) -> None:
    version = certified(config())
    moved = Policy(version.policy.tiers, {"cheap": point})
    assert "thresholds changed" in fault(RouterVersion(moved, version.stages, version.certificate), config())


def test_the_shipped_outcomes_are_of_the_shipped_configuration() -> None:
    local = load_config(Path(__file__).parents[4] / "configs" / "local.yaml")
    assert collected_binds(STARTER_OUTCOMES) == tier_binds(local), "make up would train no first version"


def test_a_folder_of_other_weights_of_the_same_size_voids_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    weights = tmp_path / "m" / "model.bin"
    weights.write_bytes(b"a" * 100)
    context = config(weights={"folder": str(tmp_path / "m")}).model_copy(update={"state_folder": tmp_path / "state"})
    version = certified(context)
    check_certificate(version, context, TODAY)
    weights.write_bytes(b"b" * 100)
    assert "cheap.weights changed" in fault(version, context)


def test_an_expired_certificate_says_when() -> None:
    version = certified(config())
    check_certificate(version, config(), MADE + timedelta(days=89))
    assert "expired at 2026-04-01" in fault(version, config(), MADE + timedelta(days=90))


def test_other_tiers_than_it_was_made_for_are_named() -> None:
    message = fault(certified(config()), config(("cheap", "medium", "frontier")))
    assert "medium" in message


def test_a_version_without_a_certificate_says_so() -> None:
    version = certified(config())
    assert "no certificate" in fault(RouterVersion(version.policy, version.stages, name="router/1"), config())


def test_what_outcomes_were_collected_from_is_noted_beside_them(tmp_path: Path) -> None:
    outcomes = tmp_path / "outcomes.parquet"
    assert collected_binds(outcomes) is None
    write_collected_binds(outcomes, tier_binds(config()))
    assert collected_binds(outcomes) == tier_binds(config())
    assert collected_binds(outcomes) != tier_binds(config(speculation=None))


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Save a version certified for a graph and ask what another graph would serve of it."""

    def ask(made_for: GraphConfig, serving: GraphConfig, now: datetime = TODAY) -> Any:
        certified(made_for).save(tmp_path / "v")
        return serving_version(serving, tmp_path / "v", now)

    return ask


def test_a_version_that_holds_is_served_with_its_promise(serve: Callable[..., Any]) -> None:
    served = serve(config(), config())
    assert served.version is not None
    assert "<= 0.10" in served.reason
    assert served.folder is not None


def test_a_version_that_does_not_hold_is_not_served_and_the_reason_is_said(serve: Callable[..., Any]) -> None:
    served = serve(config(), config(speculation=None))
    assert (served.version, served.folder, served.name) == (None, None, "none")
    assert "cheap.engine changed" in served.reason


def test_an_expired_version_is_not_served(serve: Callable[..., Any]) -> None:
    assert "expired" in serve(config(), config(), MADE + timedelta(days=91)).reason


@pytest.mark.parametrize("version", ["none", "stable"])
def test_a_graph_without_a_version_says_why(tmp_path: Path, version: str) -> None:
    context = config().model_copy(update={"state_folder": tmp_path})
    context = context.model_copy(update={"policy": context.policy.model_copy(update={"version": version})})
    served = serving_version(context)
    assert served.version is None
    assert "no router version" in served.reason or "registry holds no" in served.reason


def test_a_registry_that_cannot_be_reached_is_a_reason_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    context = config().model_copy(update={"state_folder": tmp_path, "tracking_uri": "http://127.0.0.1:9"})
    served = serving_version(context)
    assert served.version is None
    assert "registry cannot be reached" in served.reason
