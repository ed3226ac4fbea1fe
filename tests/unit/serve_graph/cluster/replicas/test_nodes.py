"""What a graph on several nodes must not name, in every place that a configuration has for it."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from serve_graph.cluster.replicas.nodes import check_nodes, node_local
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ECHO = {"name": "frontier", "engine": "echo", "price": PRICE}
FIT: dict[str, Any] = {
    "nodes": "several",
    "shared_folders": ["/mnt/all"],
    "state_folder": "/var/lib/graph",
    "records": {"url": "postgresql://graph@db.internal:5432/decisions"},
    "tracking_uri": "https://registry.internal",
    "access": {"keys_file": "/mnt/all/keys.yaml"},
    "batches": {"files": "s3://bucket/files"},
    "tiers": [ECHO],
}


def faults(**changed: Any) -> dict[str, str]:
    return node_local(GraphConfig.model_validate(FIT | changed))


def tier_faults(**tier: Any) -> set[str]:
    found = faults(tiers=[{"name": "cheap", "price": PRICE, **tier}, ECHO])
    assert all(why for why in found.values())
    return {key.removeprefix("tiers.cheap.") for key in found}


def vllm_faults(**tier: Any) -> set[str]:
    return tier_faults(**{"engine": "vllm", "weights": {"hub": "org/model", "revision": COMMIT}, **tier})


def api_faults(**api: Any) -> set[str]:
    return tier_faults(engine="openai", model="m", **api)


def test_a_configuration_that_every_node_can_read_is_taken() -> None:
    assert faults() == {}
    check_nodes(GraphConfig.model_validate(FIT))


def test_files_of_tasks_lie_where_every_node_has_them() -> None:
    assert set(faults(graders={"tasks": ["/mnt/all/known.jsonl", "/home/me/known.jsonl"]})) == {"graders.tasks"}
    assert faults(graders={"tasks": ["/mnt/all/known.jsonl"]}) == {}


@pytest.mark.parametrize(
    ("batches", "is_fault"),
    [
        ({}, True),
        ({"files": "/home/me/files"}, True),
        ({"files": "file:///home/me/files"}, True),
        ({"files": "/mnt/all/files"}, False),
        ({"files": "file:///mnt/all/files"}, False),
        ({"files": "s3://bucket/files"}, False),
        ({"enabled": False}, False),
    ],
)
def test_uploaded_files_lie_on_no_node(batches: dict[str, Any], is_fault: bool) -> None:
    assert ("batches.files" in faults(batches=batches)) is is_fault


def test_on_one_node_everything_may_be_its_own() -> None:
    check_nodes(GraphConfig.model_validate({"tiers": [ECHO]}))


def test_one_error_lists_every_key_and_why() -> None:
    with pytest.raises(ConfigError) as caught:
        check_nodes(GraphConfig.model_validate({"tiers": [ECHO], "nodes": "several"}))
    for key in ("state_folder", "records.url", "tracking_uri", "access.keys_file", "batches.files"):
        assert f"\n  {key}: " in str(caught.value)


def test_a_ray_with_several_nodes_is_a_cluster_whatever_the_configuration_says() -> None:
    with pytest.raises(ConfigError, match="3 nodes run this graph"):
        check_nodes(GraphConfig.model_validate({"tiers": [ECHO]}), nodes=3)
    check_nodes(GraphConfig.model_validate(FIT | {"nodes": "one"}), nodes=3)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "sqlite:////mnt/all/decisions.db",
        "sqlite+aiosqlite:///decisions.db",
        "postgresql://graph@localhost/decisions",
        "postgresql://graph@127.0.0.1:5432/decisions",
        "postgres://graph@[::1]/decisions",
        "postgresql:///decisions",
        "postgresql+asyncpg:///decisions?host=/var/run/postgresql",
        "postgresql:///decisions?host=localhost:5432",
    ],
)
def test_a_store_that_is_one_nodes_own_is_refused(url: str | None) -> None:
    assert set(faults(records={"url": url})) == {"records.url"}


@pytest.mark.parametrize("url", ["postgresql:///decisions?host=db.internal:5432", "postgresql://u:p%40@10.0.0.5/d"])
def test_a_store_that_all_nodes_reach_is_taken(url: str) -> None:
    assert faults(records={"url": url}) == {}


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "sqlite:///mlflow.db",
        "sqlite:////mnt/all/mlflow.db",
        "file:///srv/mlruns",
        "file:mlruns",
        "file://localhost/srv/mlruns",
        "/srv/mlruns",
        "mlruns",
        "/mnt/all/../mlruns",
        "postgresql://mlflow@db.internal/mlflow",
        "http://localhost:5000",
        "http://127.0.0.1:5000",
    ],
)
def test_a_registry_that_is_one_nodes_own_is_refused(uri: str | None) -> None:
    assert set(faults(tracking_uri=uri)) == {"tracking_uri"}


@pytest.mark.parametrize("uri", ["http://mlflow:5000", "databricks", "file:///mnt/all/mlruns", "/mnt/all/mlruns"])
def test_a_registry_that_all_nodes_reach_is_taken(uri: str) -> None:
    assert faults(tracking_uri=uri) == {}


def test_keys_lie_where_every_node_has_them_or_in_the_configuration() -> None:
    key = {"name": "a", "sha256": "0" * 64}
    assert set(faults(access={})) == {"access.keys_file"}
    assert set(faults(access={"keys_file": "/etc/keys.yaml", "keys": [key]})) == {"access.keys_file"}
    assert faults(access={"keys": [key]}) == {}
    assert faults(access={"open": True}) == {}


def test_a_relative_folder_means_another_in_every_process() -> None:
    assert set(faults(state_folder=".serve_graph")) == {"state_folder"}
    assert set(faults(shared_folders=["models", "/mnt/all"])) == {"shared_folders"}


def test_the_builtin_version_is_written_on_the_node_that_starts() -> None:
    assert set(faults(policy={"version": "builtin"})) == {"policy.version"}


def test_a_catalogue_is_read_by_every_node() -> None:
    assert set(faults(policy={"catalogue": "/srv/intents.yaml"})) == {"policy.catalogue"}
    assert faults(policy={"catalogue": "/mnt/all/intents.yaml"}) == {}


def test_golden_tasks_are_read_by_every_node() -> None:
    hosted = {"name": "frontier", "engine": "openai", "model": "m", "price": PRICE}
    assert set(faults(tiers=[hosted], golden={"tasks": "/srv/tasks.jsonl"})) == {"golden.tasks"}
    assert faults(tiers=[hosted], golden={"tasks": "/mnt/all/tasks.jsonl"}) == {}


def test_weights_are_pinned_or_shared() -> None:
    assert vllm_faults() == set()
    assert vllm_faults(weights={"hub": "org/model"}) == {"weights.revision"}
    assert vllm_faults(weights={"hub": "org/model@main"}) == {"weights.revision"}
    assert vllm_faults(weights={"folder": "/models/m"}) == {"weights.folder"}
    assert vllm_faults(weights={"folder": "models/m"}) == {"weights.folder"}
    assert vllm_faults(weights={"folder": "/mnt/all/m"}) == set()
    assert vllm_faults(weights={"package": "smollm2-135m-instruct"}) == set()
    assert vllm_faults(lora={"loading_path": "/adapters", "adapter": "a"}) == {"lora.loading_path"}
    assert vllm_faults(lora={"loading_path": "s3://bucket/adapters", "adapter": "a"}) == set()


def test_an_embedders_weights_are_looked_at_too() -> None:
    embedder = {"name": "minilm", "engine": "vllm", "price": PRICE, "weights": {"hub": "a/minilm"}}
    assert set(faults(embedders=[embedder])) == {"embedders.minilm.weights.revision"}


def test_what_an_engine_loads_beside_its_weights_is_pinned_or_shared() -> None:
    assert vllm_faults(speculation={"method": "ngram", "num_speculative_tokens": 4}) == set()
    assert vllm_faults(speculation={"method": "eagle3", "model": "org/eagle"}) == {"speculation.revision"}
    assert vllm_faults(speculation={"method": "eagle3", "model": "org/eagle", "revision": COMMIT}) == set()
    assert vllm_faults(speculation={"method": "eagle3", "model": "/models/eagle"}) == {"speculation.model"}
    assert vllm_faults(engine_kwargs={"tokenizer": "org/other"}) == {"engine_kwargs.tokenizer_revision"}
    assert vllm_faults(engine_kwargs={"chat_template": "chat.jinja"}) == {"engine_kwargs.chat_template"}
    assert vllm_faults(engine_kwargs={"chat_template": "/mnt/all/chat.jinja"}) == set()
    assert vllm_faults(engine_kwargs={"speculative_config": {"model": "./draft"}}) == {
        "engine_kwargs.speculative_config.model"
    }
    assert vllm_faults(engine_kwargs={"download_dir": "/var/cache/hub", "dtype": "bfloat16"}) == set()


def test_a_hosted_tiers_key_and_address_are_the_same_on_every_node() -> None:
    assert api_faults(api_key_env="KEY") == set()
    assert api_faults(api_key_file="/run/secrets/key") == {"api_key_file"}
    assert api_faults(api_key_file="/mnt/all/key") == set()
    assert api_faults(base_url="http://localhost:8001/v1") == {"base_url"}
    assert tier_faults(
        engine="openai",
        deployments=[{"name": "a", "model": "m", "api_key_file": "key"}, {"name": "b", "model": "m"}],
    ) == {"deployments.a.api_key_file"}


def test_every_path_that_a_configuration_can_hold_is_looked_at() -> None:
    """A new key of type Path fails here until `node_local` has a rule for it."""

    def holds_path(annotation: Any) -> bool:
        return annotation is Path or any(holds_path(part) for part in get_args(annotation))

    def models(annotation: Any) -> set[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return {annotation}
        return {model for part in get_args(annotation) for model in models(part)}

    waiting: set[type[BaseModel]] = {GraphConfig}
    seen: set[type[BaseModel]] = set()
    found = set()
    while waiting:
        model = waiting.pop()
        seen.add(model)
        for name, field in model.model_fields.items():
            waiting |= models(field.annotation) - seen
            if holds_path(field.annotation):
                found.add(name)
    assert found == {"state_folder", "shared_folders", "keys_file", "api_key_file", "folder", "tasks", "catalogue"}
