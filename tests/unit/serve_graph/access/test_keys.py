import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve_graph.access.keys import Keyring, key_hash, locked, new_key, read_keys, write_keys
from serve_graph.cli.client.api_key import key_headers
from serve_graph.config.access import KeyConfig
from serve_graph.errors import ConfigError


def key(name: str, secret: str = "") -> KeyConfig:
    return KeyConfig(name=name, sha256=key_hash(secret or name))


def test_keys_are_long_and_never_twice_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(k) >= 43 for k in keys)


def test_keys_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = (
        KeyConfig(name="a", sha256=key_hash("a"), scopes=("use", "admin"), usd_per_day="1.50", requests_per_min=3),  # type: ignore[arg-type]
        key("b"),
    )
    write_keys(tmp_path / "deep" / "keys.yaml", made)
    assert read_keys(tmp_path / "deep" / "keys.yaml") == made


def test_only_the_owner_may_read_the_file_and_no_key_is_in_it(tmp_path: Path) -> None:
    secret = new_key()
    write_keys(tmp_path / "keys.yaml", [key("a", secret)])
    assert stat.S_IMODE((tmp_path / "keys.yaml").stat().st_mode) == 0o600
    assert secret not in (tmp_path / "keys.yaml").read_text()


def test_no_file_is_no_keys(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "none.yaml") == ()
    assert not Keyring((), tmp_path / "none.yaml").required


@pytest.mark.parametrize(
    "text", ["[{name: a}]", "[{name: a, sha256: short}]", "3", "[: {", "- name: A\n  sha256: x", "\x00"]
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        read_keys(tmp_path / "keys.yaml")


def test_two_keys_of_one_name_or_one_secret_are_refused(tmp_path: Path) -> None:
    for pair in ([key("a"), key("a", "other")], [key("a", "same"), key("b", "same")]):
        write_keys(tmp_path / "keys.yaml", pair)
        with pytest.raises(ConfigError, match="same"):
            read_keys(tmp_path / "keys.yaml")


def test_a_keyring_finds_by_the_whole_secret_only(tmp_path: Path) -> None:
    ring = Keyring([key("a", "the-secret")], tmp_path / "keys.yaml")
    found = ring.find("the-secret")
    assert found is not None
    assert found.name == "a"
    for wrong in ("the-secre", "the-secret ", "", "THE-SECRET", "\udcff"):
        assert ring.find(wrong) is None


def test_a_changed_file_is_read_again_and_a_revoked_key_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    write_keys(path, [key("a"), key("b")])
    ring = Keyring((), path)
    write_keys(path, [key("b"), key("c")])
    assert ring.find("a") is not None
    ring.refresh()
    assert ring.find("a") is None
    assert ring.find("c") is not None
    assert ring.named("c") == key("c")


@pytest.mark.parametrize("fixed", [(), (key("b"),)], ids=["file alone", "configuration too"])
def test_a_file_that_breaks_or_vanishes_changes_nothing(tmp_path: Path, fixed: tuple[KeyConfig, ...]) -> None:
    path = tmp_path / "keys.yaml"
    write_keys(path, [key("a")])
    ring = Keyring(fixed, path)
    for damage in (lambda: path.write_text("[: {"), lambda: path.write_text(""), lambda: os.remove(path)):
        damage()
        with pytest.raises(ConfigError):
            ring.refresh()
        assert ring.required
        assert ring.find("a") is not None


def test_revoking_the_last_key_shuts_everybody_out(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    write_keys(path, [key("leaked")])
    ring = Keyring((), path)
    write_keys(path, [])
    ring.refresh()
    assert ring.find("leaked") is None
    assert ring.required, "without any key the door would be open to this machine"
    write_keys(path, [key("new")])
    ring.refresh()
    assert ring.find("new") is not None


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"

    def make(names: range) -> None:
        for i in names:
            with locked(path):
                write_keys(path, [*read_keys(path), key(f"k{i}")])

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, [range(i, i + 5) for i in range(0, 20, 5)]))
    assert {made.name for made in read_keys(path)} == {f"k{i}" for i in range(20)}


def test_our_own_commands_show_the_key_of_the_environment() -> None:
    assert key_headers({"SERVE_GRAPH_KEY": " sg-x\n"}) == {"authorization": "Bearer sg-x"}
    assert key_headers({"SERVE_GRAPH_KEY": ""}) == key_headers({}) == {}


@pytest.mark.parametrize("text", ["[]", None], ids=["the last key was revoked", "the node has no file"])
def test_the_door_stays_shut_without_keys(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys.yaml"
    if text is not None:
        path.write_text(text)
    assert Keyring((), path, required=text is None).required
    assert Keyring((), path).required == (text is not None)


def test_a_file_that_comes_to_say_that_nobody_has_a_key_shuts_the_door(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    ring = Keyring((), path)
    assert not ring.required
    path.write_text("[]")
    ring.refresh()
    assert ring.required
