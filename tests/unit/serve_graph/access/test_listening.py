"""Listening beyond this machine without keys: refused by `up`, and by `serve deploy` as far as it can be known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from serve_graph.access.keys import key_hash, new_key, write_keys
from serve_graph.access.listening import check_listening
from serve_graph.cluster.proxy_address import host_of_serve
from serve_graph.config.access import KeyConfig
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError

HERE = ["127.0.0.1", "127.0.0.2", "::1", "localhost"]
EVERYWHERE = ["0.0.0.0", "::", "192.168.1.5", "example.org"]


def listening_on(host: str, folder: Path, **access: Any) -> GraphConfig:
    tier = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    data = {"tiers": [tier], "http": {"host": host}, "state_folder": str(folder), "access": access}
    return GraphConfig.model_validate(data | {"policy": {"version": "none"}})


@pytest.mark.parametrize("host", HERE)
def test_this_machines_own_addresses_need_no_keys(host: str, tmp_path: Path) -> None:
    check_listening(listening_on(host, tmp_path))


@pytest.mark.parametrize("host", EVERYWHERE)
def test_listening_for_everybody_is_refused_without_keys_and_allowed_with_one(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="admit everybody"):
        check_listening(listening_on(host, tmp_path))
    check_listening(listening_on(host, tmp_path, open=True))
    check_listening(listening_on(host, tmp_path, keys=[{"name": "me", "sha256": key_hash(new_key())}]))
    write_keys(tmp_path / "keys.yaml", [KeyConfig(name="me", sha256=key_hash(new_key()))])
    check_listening(listening_on(host, tmp_path))


@pytest.fixture
def serve_listens(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray as it is where Serve runs already, listening on a host; on None: where Serve does not run."""

    def listen(host: str | None, root_path: str = "") -> None:
        def actor(*_: Any, **__: Any) -> Any:
            if host is None:
                raise ValueError("no such actor")
            options = SimpleNamespace(host=host, root_path=root_path)
            return SimpleNamespace(get_http_config=SimpleNamespace(remote=lambda: options))

        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_actor", actor)
        monkeypatch.setattr(ray, "get", lambda found, timeout: found)

    return listen


def test_where_serve_listens_is_asked_of_serve(serve_listens: Any) -> None:
    assert host_of_serve() is None, "no Ray: nothing is known, and no cluster is started to ask"
    serve_listens(None)
    assert host_of_serve() is None
    serve_listens("0.0.0.0")
    assert host_of_serve() == "0.0.0.0"


@pytest.mark.parametrize(("host", "serves"), [("0.0.0.0", None), ("127.0.0.1", "0.0.0.0")])
def test_the_builder_of_serve_deploy_refuses_as_up_does(
    host: str, serves: str | None, serve_listens: Any, tmp_path: Path
) -> None:
    from serve_graph.app import build_app

    serve_listens(serves)
    with pytest.raises(ConfigError, match=r"listening on 0\.0\.0\.0 would admit everybody.*access\.open: true"):
        build_app({"config": listening_on(host, tmp_path)})
    build_app({"config": listening_on(host, tmp_path, open=True)})


def test_the_builder_asks_for_no_keys_on_loopback(serve_listens: Any, tmp_path: Path) -> None:
    from serve_graph.app import build_app

    serve_listens("127.0.0.1")
    build_app({"config": listening_on("127.0.0.1", tmp_path)})


def test_a_graph_on_a_serve_that_a_batch_run_started_for_itself_is_refused(serve_listens: Any, tmp_path: Path) -> None:
    """It has no proxy: the graph would listen nowhere."""
    from serve_graph.app import build_app

    serve_listens("127.0.0.1", "/batch-passes/run")
    with pytest.raises(ConfigError, match="by a batch run in passes, without a proxy"):
        build_app({"config": listening_on("127.0.0.1", tmp_path)})
