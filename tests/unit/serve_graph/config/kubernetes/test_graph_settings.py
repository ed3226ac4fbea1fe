from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_graph.cluster.replicas.nodes import node_local
from serve_graph.config.graph import load_config
from serve_graph.config.kubernetes.graph_settings import cluster_graph, tier_resource
from serve_graph.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[5] / "configs").glob("*.yaml"))
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
ECHO: dict[str, Any] = {"tiers": [{"name": "frontier", "engine": "echo", "price": PRICE}]}


def written(folder: Path, data: Any) -> Path:
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_is_read_by_the_cluster_as_the_same_graph(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = cluster_graph(path)
    for name in graph.variables:
        monkeypatch.setenv(name, "postgresql://u@db/serve" if "STORE" in name else "http://mlflow:5000")
    inside = tmp_path / "graph.yaml"
    inside.write_text(graph.text)
    there, here = load_config(inside), load_config(path)
    kept = {"tiers": {"__all__": {"placement_bundles"}}, "embedders": {"__all__": {"placement_bundles"}}}
    where = (
        "batches",
        "records",
        "tracking_uri",
        "access",
        "http",
        "state_folder",
        "logical_cpus",
        "nodes",
        "shared_folders",
    )
    excluded: Any = kept | dict.fromkeys(where, True)
    assert there.model_dump(exclude=excluded) == here.model_dump(exclude=excluded)
    assert there.records_url.startswith("postgresql")
    assert there.registry_uri.startswith("http")
    assert there.keys_file.is_absolute()
    assert there.state_folder.is_absolute()
    assert there.http.host == "0.0.0.0"
    assert not there.batches.enabled
    assert set(node_local(there)) == ({"policy.version"} if path.name == "echo.yaml" else set()), "builtin is refused"


def test_what_a_configuration_says_of_a_shared_state_stays(tmp_path: Path) -> None:
    said = ECHO | {
        "records": {"url": "postgresql://${DB_USER}@db/x", "keep_days": 3},
        "tracking_uri": "https://registry.example",
        "access": {"keys_file": "/run/keys/all.yaml"},
        "http": {"host": "10.0.0.1", "port": 9000},
        "state_folder": "/data",
        "batches": {"files": "s3://bucket/files"},
        "nodes": "several",
        "shared_folders": ["/run/keys"],
    }
    graph = cluster_graph(written(tmp_path, said))
    assert yaml.safe_load(graph.text) == said
    assert graph.variables == ("DB_USER",)
    assert graph.secret_files == ("/run/keys/all.yaml",)


def test_the_folder_of_the_keys_is_shared_beside_others(tmp_path: Path) -> None:
    graph = cluster_graph(written(tmp_path, ECHO | {"shared_folders": ["/models"]}))
    assert [str(folder) for folder in graph.config.shared_folders] == ["/models", "/etc/serve-graph"]
    assert "access.keys_file" not in node_local(graph.config)


def test_no_secret_comes_into_the_config_map(tmp_path: Path) -> None:
    open_secrets = {
        "records": {"url": "postgresql://graph:word@db/x"},
        "tracking_uri": "https://user:word@registry.example",
        "alarms": {"webhook": "https://hooks.example/x", "webhook_secret": "word-word-word-word"},
    }
    with pytest.raises(ConfigError, match=r"alarms\.webhook_secret, records\.url, tracking_uri") as refused:
        cluster_graph(written(tmp_path, ECHO | open_secrets))
    assert "word" not in str(refused.value)
    named = {
        "records": {"url": "postgresql://graph:${DB_PASSWORD}@db/x"},
        "alarms": {"webhook": "https://hooks.example/x", "webhook_secret": "${HOOK_SECRET}"},
    }
    assert set(cluster_graph(written(tmp_path, ECHO | named)).variables) >= {"DB_PASSWORD", "HOOK_SECRET"}


@pytest.mark.parametrize("url", [None, "sqlite:///here.db"])
def test_a_store_and_a_registry_on_one_disk_are_replaced(tmp_path: Path, url: str | None) -> None:
    said = ECHO | {"records": {"url": url, "keep_days": 3}, "tracking_uri": url}
    settled = yaml.safe_load(cluster_graph(written(tmp_path, said)).text)
    assert settled["records"] == {"url": "${SERVE_GRAPH_STORE_URL}", "keep_days": 3}
    assert settled["tracking_uri"] == "${SERVE_GRAPH_REGISTRY_URI}"


def test_a_graph_that_is_open_gets_no_keys_file(tmp_path: Path) -> None:
    assert cluster_graph(written(tmp_path, ECHO | {"access": {"open": True}})).secret_files == ()


def test_keys_of_hosted_tiers_in_files_are_secrets_to_mount(tmp_path: Path) -> None:
    tier = {"name": "api", "engine": "openai", "model": "m", "price": PRICE, "api_key_file": "/run/openai/key"}
    graph = cluster_graph(written(tmp_path, {"tiers": [tier, *ECHO["tiers"]]}))
    assert graph.secret_files == ("/etc/serve-graph/keys.yaml", "/run/openai/key")


def test_folders_of_weights_and_adapters_are_volumes_to_mount(tmp_path: Path) -> None:
    lora = {"loading_path": "/models/adapters", "adapter": "mine"}
    tier = {"name": "own", "engine": "vllm", "weights": {"folder": "/data/own"}, "price": PRICE, "lora": lora}
    said = {"tiers": [tier, *ECHO["tiers"]], "shared_folders": ["/etc/serve-graph", "/models"]}
    assert cluster_graph(written(tmp_path, said)).model_folders == ("/data/own", "/models")


def test_replicas_of_a_tier_are_placed_on_workers_of_their_own(tmp_path: Path) -> None:
    tier = {"name": "small", "engine": "vllm", "weights": {"hub": "a/b"}, "price": PRICE}
    two = tier | {"name": "big", "engine_kwargs": {"tensor_parallel_size": 2}}
    own = tier | {"name": "own", "placement_bundles": [{"CPU": 2, "GPU": 1, "nvlink": 1}]}
    graph = cluster_graph(written(tmp_path, {"tiers": [tier, two, *ECHO["tiers"]], "embedders": [own]}))
    found = {name: graph.config.tier(name) for name in ("small", "big", "own")}
    assert {name: getattr(tier, "placement_bundles", None) for name, tier in found.items()} == {
        "small": [{"GPU": 1, tier_resource("small"): 1}],
        "big": [{"GPU": 1, tier_resource("big"): 1}] * 2,
        "own": [{"CPU": 2, "GPU": 1, "nvlink": 1, tier_resource("own"): 1}],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a", "must hold a mapping"),
        ("tiers: [", "not YAML"),
        ("tiers: []", "tiers"),
        ("tiers: [{name: a, engine: vllm, weights: {folder: mine}, price: {}}]", "price"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why) as refused:
        cluster_graph(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        cluster_graph(tmp_path / "none.yaml")
