"""Names that the registry would refuse are refused by every command before it does any work."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.errors import RegistryError
from serve_graph.cli import app
from serve_graph.errors import ConfigError

CONFIG: dict[str, Any] = {
    "tiers": [
        {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}},
        {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 8}},
    ],
    "policy": {"safe_tier": "frontier"},
}
ALIASES = {
    "prod candidate": "more than letters",
    "latest": "a meaning of its own",
    "v1": "reserved for version numbers: write 1",
    "team/router": "more than letters",
    "": "the alias is empty",
}
POLICIES = [
    ({"model_name": "team/router"}, "model_name: .*the model's name 'team/router' holds '/'"),
    ({"model_name": "a:b"}, "model_name: .*holds ':'"),
    ({"model_name": " "}, "model_name: .*the model's name is empty"),
    ({"version": "v1"}, "version: .*reserved for version numbers"),
    ({"version": "prod candidate"}, "version: .*more than letters"),
]


@pytest.fixture
def call(tmp_path: Path) -> Any:
    """Run a command in an empty folder; the error it ends with."""

    def run(policy: dict[str, Any], *words: str) -> Exception:
        graph = tmp_path / "graph.yaml"
        settings = CONFIG | {"policy": CONFIG["policy"] | policy, "state_folder": str(tmp_path / "state")}
        graph.write_text(yaml.safe_dump(settings))
        result = CliRunner().invoke(app, [*words, "--config", str(graph)])
        assert isinstance(result.exception, Exception), result.output
        assert not (tmp_path / "state").exists()
        return result.exception

    return run


@pytest.mark.parametrize(("alias", "message"), ALIASES.items(), ids=repr)
def test_certify_refuses_an_alias_before_it_reads_anything(call: Any, alias: str, message: str) -> None:
    words = ["certify", "--candidate", "none", "--outcomes", "none.parquet", "--alias", alias]
    with pytest.raises(RegistryError, match=message):
        raise call({}, *words)


@pytest.mark.parametrize("command", ["show", "approve", "reject", "promote"])
def test_a_version_that_cannot_be_is_named(call: Any, command: str) -> None:
    with pytest.raises(RegistryError, match="the version 'prod candidate' holds more than"):
        raise call({}, "versions", command, "prod candidate")


@pytest.mark.parametrize(("policy", "message"), POLICIES)
@pytest.mark.parametrize(
    "words",
    [["train", "--outcomes", "x.parquet"], ["versions", "list"], ["doctor"], ["collect"]],
    ids=lambda words: words[0],
)
def test_a_configuration_with_such_a_name_is_refused_when_it_is_loaded(
    call: Any, policy: dict[str, Any], message: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        raise call(policy, *words)
