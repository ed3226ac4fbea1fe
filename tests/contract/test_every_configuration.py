from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serve_graph.cluster.replicas.nodes import check_nodes
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.templates import TEMPLATES
from serve_graph.config.tiers.kinds import EchoTierConfig, VllmTierConfig
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.errors import ConfigError

CONFIGS = sorted([*(Path(__file__).parents[2] / "configs").glob("*.yaml"), *TEMPLATES.glob("*.yaml")])
ECHO: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}},
        {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}},
    ]
}


def written(folder: Path, data: Any) -> Path:
    path = folder / "graph.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def refusal(folder: Path, data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(written(folder, data))
    return str(caught.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_configuration_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://graph@store/decisions")
    monkeypatch.setenv("SERVE_GRAPH_REGISTRY_URI", "https://registry")
    config = load_config(path)
    check_nodes(config)
    assert config.policy.safe_tier in config.tier_names
    assert isinstance(config.tier(config.tier_names[0]).price.input_usd_per_mtok, Decimal)


def test_the_checkouts_configurations_are_the_shipped_ones() -> None:
    links = {path.name for path in CONFIGS if path.is_symlink() and path.resolve().parent == TEMPLATES}
    assert links == {"cluster.yaml", "echo.yaml", "local.yaml"}


def test_two_configurations_are_shipped_for_a_laptop() -> None:
    assert {"echo.yaml", "local.yaml"} <= {path.name for path in CONFIGS}


def test_unknown_key_is_named(tmp_path: Path) -> None:
    assert "colour" in refusal(tmp_path, ECHO | {"colour": "blue"})


def test_unknown_key_of_a_tier_is_named_with_its_place(tmp_path: Path) -> None:
    tiers = [ECHO["tiers"][0] | {"speeed": 3}, ECHO["tiers"][1]]
    message = refusal(tmp_path, {"tiers": tiers})
    assert "tiers.0" in message
    assert "speeed" in message


def test_two_tiers_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "tier names must differ" in refusal(tmp_path, {"tiers": [ECHO["tiers"][1], ECHO["tiers"][1]]})


EMBEDDER = {
    "name": "minilm",
    "engine": "vllm",
    "weights": {"hub": "a/minilm"},
    "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0},
}


def test_an_embedder_is_found_by_name_and_is_no_tier(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ECHO | {"embedders": [EMBEDDER]}))
    assert config.tier("minilm").name == "minilm"
    assert config.tier_names == ("cheap", "frontier")


@pytest.mark.parametrize("name", ["cheap", "auto"])
def test_an_embedder_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    assert "tier name" in refusal(tmp_path, ECHO | {"embedders": [EMBEDDER | {"name": name}]})


def test_a_vllm_tier_that_is_to_embed_as_well_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tiers = [EMBEDDER | {"embeddings": True}, ECHO["tiers"][1]]
    assert "list a model that makes embeddings under `embedders`" in refusal(tmp_path, {"tiers": tiers})


@pytest.mark.parametrize("name", ["auto", "router", "verifier", "ingress"])
def test_a_tier_may_not_take_a_reserved_name(tmp_path: Path, name: str) -> None:
    assert name in refusal(tmp_path, {"tiers": [ECHO["tiers"][0] | {"name": name}, ECHO["tiers"][1]]})


@pytest.mark.parametrize("name", ["Cheap", "9lives", "with space", "a" * 33, "", 'quote"'])
def test_a_tier_name_is_short_and_plain(tmp_path: Path, name: str) -> None:
    assert "name" in refusal(tmp_path, {"tiers": [ECHO["tiers"][0] | {"name": name}, ECHO["tiers"][1]]})


def test_safe_tier_must_be_a_tier(tmp_path: Path) -> None:
    assert "'nowhere'" in refusal(tmp_path, ECHO | {"policy": {"safe_tier": "nowhere"}})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: No such file"):
        load_config(tmp_path / "nothing.yaml")


def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["tiers: [", "\ttiers: 1", "a: b: c"])
def test_bad_yaml_is_named(tmp_path: Path, text: str) -> None:
    assert "is not YAML" in refusal(tmp_path, text)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_bytes(b"\xff\xfe\x00tiers")
    with pytest.raises(ConfigError, match=r"graph\.yaml is not YAML"):
        load_config(tmp_path / "graph.yaml")


@pytest.mark.parametrize("text", ["", "[]", "just words", "42"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "must hold a mapping" in refusal(tmp_path, text)


def test_missing_environment_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    assert "${NO_SUCH_SECRET}" in refusal(tmp_path, ECHO | {"tracking_uri": "http://${NO_SUCH_SECRET}@mlflow"})


def test_environment_variable_is_replaced_inside_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret: #1 [x]")
    config = load_config(written(tmp_path, ECHO | {"tracking_uri": "http://u:${A_SECRET}@mlflow"}))
    assert config.tracking_uri == "http://u:s3cret: #1 [x]@mlflow"


def test_environment_variable_cannot_change_the_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_NAME", "x\npolicy: {safe_tier: cheap}")
    config = load_config(written(tmp_path, ECHO | {"tracking_uri": "${A_NAME}"}))
    assert config.policy.safe_tier == "frontier"


def test_environment_variable_named_in_a_comment_is_not_needed(tmp_path: Path) -> None:
    load_config(written(tmp_path, "# set ${NO_SUCH_SECRET} first\n" + yaml.safe_dump(ECHO)))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@db/x", "postgresql+asyncpg://u:p@db/x"),
        ("postgres://u:p@db/x", "postgresql+asyncpg://u:p@db/x"),
        ("postgresql+asyncpg://u@/x?host=/run", "postgresql+asyncpg://u@/x?host=/run"),
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite:////tmp/x.db"),
    ],
)
def test_store_url_gets_the_driver_the_graph_has(given: str, used: str) -> None:
    assert GraphConfig.model_validate(ECHO | {"records": {"url": given}}).records_url == used


@pytest.mark.parametrize("url", ["mysql://u@db/x", "postgresql+psycopg2://u@db/x", "no url at all"])
def test_store_url_without_a_driver_is_refused_at_once(tmp_path: Path, url: str) -> None:
    assert "records.url must begin with" in refusal(tmp_path, ECHO | {"records": {"url": url}})


@pytest.mark.parametrize(
    "weights", [{}, {"package": "x", "hub": "y"}, {"hub": "y", "folder": "/z"}], ids=["none", "two", "other-two"]
)
def test_weights_name_exactly_one_source(tmp_path: Path, weights: dict[str, str]) -> None:
    tier = ECHO["tiers"][0] | {"engine": "vllm", "weights": weights}
    assert "exactly one of package, hub, folder" in refusal(tmp_path, {"tiers": [tier, ECHO["tiers"][1]]})


@pytest.mark.parametrize("weights", [{"hub": "org/model@v2"}, {"hub": "org/model", "revision": "v2"}], ids=str)
def test_a_hub_id_may_name_its_revision(weights: dict[str, str]) -> None:
    made = WeightsConfig.model_validate(weights)
    assert (made.hub, made.revision) == ("org/model", "v2")


@pytest.mark.parametrize(
    "weights",
    [{"hub": "a/b@x", "revision": "y"}, {"folder": "/z", "revision": "y"}, {"hub": "a/b@"}],
    ids=["two", "of a folder", "empty"],
)
def test_a_revision_that_means_nothing_is_refused(weights: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="revision"):
        WeightsConfig.model_validate(weights)


@pytest.mark.parametrize(
    "bad",
    [
        {"price": {"input_usd_per_mtok": -1, "output_usd_per_mtok": 2}},
        {"price": {"input_usd_per_mtok": "NaN", "output_usd_per_mtok": 2}},
        {"timeout_s": 0},
        {"scaling": {"min_replicas": 3, "max_replicas": 2}},
        {"engine": "steam"},
        {"skill": 1.5},
    ],
    ids=str,
)
def test_value_out_of_range_is_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    refusal(tmp_path, {"tiers": [ECHO["tiers"][0] | bad, ECHO["tiers"][1]]})


def test_speculation_and_engine_arguments_are_kept_as_given() -> None:
    speculation = {"method": "eagle3", "model": "some/draft", "nested": {"anything": [1, None]}}
    tier = ECHO["tiers"][0] | {
        "engine": "vllm",
        "weights": {"hub": "a/b"},
        "speculation": speculation,
        "engine_kwargs": {"x": {"y": 1}},
    }
    read = GraphConfig.model_validate({"tiers": [tier, ECHO["tiers"][1]]}).tier("cheap")
    assert isinstance(read, VllmTierConfig)
    assert read.speculation == speculation
    assert read.engine_kwargs == {"x": {"y": 1}}


def test_any_number_of_tiers_is_a_list() -> None:
    tiers = [ECHO["tiers"][0] | {"name": f"t{i}"} for i in range(5)]
    config = GraphConfig.model_validate({"tiers": tiers, "policy": {"safe_tier": "t4"}})
    assert config.tier_names == ("t0", "t1", "t2", "t3", "t4")


def test_a_configuration_cannot_be_changed() -> None:
    config = GraphConfig.model_validate(ECHO)
    with pytest.raises(ValidationError):
        config.tracking_uri = "elsewhere"  # type: ignore[misc]
    assert isinstance(config.tier("cheap"), EchoTierConfig)
    with pytest.raises(KeyError):
        config.tier("nowhere")
