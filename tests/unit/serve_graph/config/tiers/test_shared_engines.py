"""Tiers that answer from another tier's engine: what is written once, what each has of its own, what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.app import build_app
from serve_graph.cli.local.memory import memory_needed
from serve_graph.cluster.load.sleep_watch import SleepWatch
from serve_graph.cluster.tier_client import HandleEngine, adapter_of
from serve_graph.config.graph import GraphConfig
from serve_graph.config.kubernetes.worker_groups import serving_deployments, worker_groups
from serve_graph.config.tiers.shared_engines import engines_of, sharing
from serve_graph.engines.vllm.settings import llm_settings
from serve_graph.engines.weights.loaded_files import loaded_files
from serve_graph.policy.bindings import tier_binds

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ENGINE: dict[str, Any] = {
    "name": "general",
    "engine": "vllm",
    "weights": {"hub": "a/b@0123456789abcdef0123456789abcdef01234567"},
    "accelerator": "cpu",
    "env": {"VLLM_CPU_KVCACHE_SPACE": "3"},
    "engine_kwargs": {"max_model_len": 512},
    "scaling": {"min_replicas": 0, "max_replicas": 2},
    "lora": {"loading_path": "s3://models/adapters", "max_rank": 32, "max_in_batch": 2},
    "price": PRICE,
}
LEGAL: dict[str, Any] = {
    "name": "legal",
    "engine": "vllm",
    "engine_of": "general",
    "lora": {"adapter": "legal-v2"},
    "decoding": {"temperature": 0.0},
    "admission": {"max_in_flight": 3},
    "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 3},
}
LAST = {"name": "frontier", "engine": "echo", "price": PRICE}


def graph(*tiers: dict[str, Any], **more: Any) -> GraphConfig:
    return GraphConfig.model_validate({"tiers": [*tiers, LAST], **more})


@pytest.mark.parametrize("order", [(ENGINE, LEGAL), (LEGAL, ENGINE)], ids=["engine first", "engine second"])
def test_a_tier_has_the_engines_settings_and_its_own(order: tuple[dict[str, Any], ...]) -> None:
    config = graph(*order)
    engine, legal = config.tier("general"), config.tier("legal")
    assert legal.engine_name == engine.engine_name == engine.name == "general"
    for name in ("weights", "engine_kwargs", "env", "accelerator", "scaling"):
        assert getattr(legal, name) == getattr(engine, name)
    assert (legal.lora.loading_path, legal.lora.adapter, legal.lora.max_rank) == (
        "s3://models/adapters",
        "legal-v2",
        32,
    )
    assert engine.lora.adapter is None
    assert (legal.price.input_usd_per_mtok, legal.admission.max_in_flight) == (2, 3)
    assert [tier.name for tier in engines_of(config.tiers)] == ["general", "frontier"]
    assert {tier.name for tier in sharing(config.tiers, "general")} == {"general", "legal"}
    again = GraphConfig.model_validate(config.model_dump())
    assert again == config


def test_the_base_and_each_adapter_are_asked_of_one_engine_by_name() -> None:
    config = graph(ENGINE, LEGAL)
    assert adapter_of(config.tier("general")) is None
    assert adapter_of(config.tier("legal")) == "general:legal-v2"

    class Handle:
        def options(self, **options: Any) -> tuple[str, Any]:
            return "with", options

    engines = {tier.name: HandleEngine(Handle(), tier) for tier in config.tiers[:2]}  # type: ignore[arg-type]
    assert engines["general"].model == "general"
    assert engines["legal"].model == "general:legal-v2"
    assert engines["legal"].handle == ("with", {"multiplexed_model_id": "general:legal-v2"})
    settings = llm_settings(config.tier("general"), "a/b")  # type: ignore[arg-type]
    assert (
        settings["engine_kwargs"] | {"enable_lora": True, "max_lora_rank": 32, "max_loras": 2}
        == settings["engine_kwargs"]
    )
    assert settings["lora_config"]["dynamic_lora_loading_path"] == "s3://models/adapters"


def test_each_tiers_certificate_is_bound_to_its_own_adapter(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "loras" / name).mkdir(parents=True)
        (tmp_path / "loras" / name / "adapter_model.safetensors").write_bytes(name.encode())
    base = ENGINE | {"lora": {"loading_path": str(tmp_path / "loras")}}
    two = LEGAL | {"lora": {"adapter": "one"}}, LEGAL | {"name": "medical", "lora": {"adapter": "two"}}
    config = graph(base, *two, state_folder=str(tmp_path / "state"))
    binds = tier_binds(config)
    weights = {binds[f"{tier}.weights"] for tier in ("general", "legal", "medical")}
    assert len(weights) == 3
    assert len({binds[f"{tier}.engine"] for tier in ("general", "legal", "medical")}) == 1
    adapters = [tier.lora.folder for tier in config.tiers[1:3]]  # type: ignore[union-attr]
    files = loaded_files(config.tiers[0], "a/b", config.state_folder, adapters)  # type: ignore[arg-type]
    assert set(files.folders) == {str(tmp_path / "loras" / name) for name in ("one", "two")}
    (tmp_path / "loras" / "two" / "adapter_model.safetensors").write_bytes(b"other")
    changed = tier_binds(config)
    assert {name for name in binds if binds[name] != changed[name]} == {"medical.weights"}


def test_an_engine_is_counted_placed_and_put_to_sleep_once() -> None:
    config = graph(ENGINE, LEGAL)
    assert set(memory_needed(config).parts) == {"the graph", "general"}
    assert {group.name for group in worker_groups(config, {})} >= {"general"}
    assert "legal" not in {group.name for group in worker_groups(config, {})}
    echo = {**LAST, "name": "small"}
    assert "shared" not in serving_deployments(graph(echo, {**LAST, "name": "shared", "engine_of": "small"}))


async def test_a_tier_sleeps_while_its_engine_does() -> None:
    config = graph(ENGINE, LEGAL)
    for replicas, asleep in (({"frontier": 1}, {"general", "legal"}), ({"general": 1}, set())):
        watch = SleepWatch({}, config, lambda found=replicas: found)  # type: ignore[misc]
        watch.asleep.tiers = frozenset({"not looked yet"})
        looking = asyncio.create_task(watch.run())
        while watch.asleep.tiers == {"not looked yet"}:
            await asyncio.sleep(0.01)
        looking.cancel()
        assert watch.asleep.tiers == asleep


def test_the_graph_binds_one_deployment_for_tiers_that_share_an_engine(tmp_path: Path) -> None:
    small = {**LAST, "name": "small"}
    config = graph(small, {**LAST, "name": "shared", "engine_of": "small"}, state_folder=str(tmp_path),
                   policy={"version": "none"})  # fmt: skip
    tiers = build_app({"config": config})._bound_deployment.init_args[2]
    assert list(tiers) == ["small", "shared", "frontier"]
    assert tiers["small"] is tiers["shared"]
    assert tiers["small"] is not tiers["frontier"]


def test_an_embedder_shares_no_engine() -> None:
    embedder = {"name": "minilm", "engine": "vllm", "engine_of": "general", "weights": {"hub": "a/b"}, "price": PRICE}
    with pytest.raises(ValidationError, match="embedders and verifiers share no engine"):
        graph(ENGINE, embedders=[embedder])


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ((ENGINE, LEGAL | {"engine_of": "nobody"}), "'nobody' is not another tier; tiers: "),
        ((ENGINE, LEGAL | {"engine_of": "legal"}), "'legal' is not another tier"),
        ((ENGINE, LEGAL | {"engine_kwargs": {"max_model_len": 9}}), "`engine_kwargs` is that engine's"),
        ((ENGINE, LEGAL | {"lora": {"adapter": "x", "max_rank": 8}}), "everything of `lora` but the adapter"),
        ((ENGINE, LEGAL | {"lora": {}}), "name the adapter that this tier answers with"),
        ((ENGINE | {"lora": None}, LEGAL | {"lora": {"loading_path": "/x", "adapter": "x"}}), "has no `lora`"),
        ((ENGINE, LEGAL, LEGAL | {"name": "third", "engine_of": "legal"}), "shares an engine itself"),
        ((ENGINE, {**LAST, "name": "echo", "engine_of": "general"}), "is a tier of the engine 'vllm'"),
    ],
)
def test_what_cannot_share_an_engine_is_refused(tiers: tuple[dict[str, Any], ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        graph(*tiers)
