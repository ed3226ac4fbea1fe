from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.keys import Keyring, key_hash
from serve_graph.access.sessions import LASTS_S, ConsoleSessions
from serve_graph.config.access import KeyConfig

BOSS = KeyConfig(name="boss", sha256=key_hash("secret"), scopes=("admin",))
SESSIONS = ConsoleSessions(b"x" * 16, Keyring([BOSS]), clock=lambda: 1_000.0)
COOKIE = SESSIONS.begin(BOSS)


def test_a_cookie_opens_its_keys_session_for_eight_hours() -> None:
    now = [1_000.0]
    sessions = ConsoleSessions(b"x" * 16, Keyring([BOSS]), clock=lambda: now[0])
    cookie = sessions.begin(BOSS)
    assert sessions.find(cookie) == BOSS
    now[0] += LASTS_S - 1
    assert sessions.find(cookie) == BOSS
    now[0] += 2
    assert sessions.find(cookie) is None


@given(st.text(), st.integers(min_value=0, max_value=len(COOKIE)))
def test_a_cookie_that_was_changed_anywhere_opens_nothing(put: str, at: int) -> None:
    for changed in (put, COOKIE[:at] + put + COOKIE[at + 1 :]):
        assert changed == COOKIE or SESSIONS.find(changed) is None


def test_another_graphs_cookie_opens_nothing() -> None:
    other = ConsoleSessions(b"y" * 16, Keyring([BOSS]), clock=lambda: 1_000.0)
    assert other.find(COOKIE) is None


def test_a_session_ends_with_its_key_and_with_its_keys_secret(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump([BOSS.model_dump(mode="json")]))
    keyring = Keyring(path=path)
    sessions = ConsoleSessions(b"x" * 16, keyring, clock=lambda: 1_000.0)
    cookie = sessions.begin(BOSS)
    for keys in ([BOSS.model_copy(update={"sha256": key_hash("new")}).model_dump(mode="json")], []):
        path.write_text(yaml.safe_dump(keys) + " " * (len(keys) + 1))
        path.touch()
        keyring.refresh()
        assert sessions.find(cookie) is None


def test_graphs_on_one_host_name_their_cookies_apart_and_replicas_of_one_alike() -> None:
    again, other = (ConsoleSessions(secret, Keyring([BOSS])) for secret in (b"x" * 16, b"y" * 16))
    assert again.cookie_name == SESSIONS.cookie_name != other.cookie_name
    both = {"cookie": f"{other.cookie_name}=theirs; {SESSIONS.cookie_name}={COOKIE}"}
    assert SESSIONS.cookie_in(both) == COOKIE
    assert other.cookie_in(both) == "theirs"
    assert SESSIONS.cookie_in({"cookie": f"serve_graph_console={COOKIE}"}) == ""
