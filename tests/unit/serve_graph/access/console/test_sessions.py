from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.console.sessions import LASTS_S, PROOF_CHARS, ConsoleSessions
from serve_graph.access.keys import Keyring, key_hash
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
    both |= {"host": "localhost:8000"}
    assert SESSIONS.cookie_in(both) == COOKIE
    assert other.cookie_in(both) == "theirs"
    assert SESSIONS.cookie_in(both | {"cookie": f"serve_graph_console={COOKIE}"}) == ""


PROOF = "p" * PROOF_CHARS


@given(st.text(max_size=50))
def test_a_form_needs_the_proof_that_its_session_was_begun_with_and_the_cookie_does_not_hold_it(other: str) -> None:
    """Whoever was sent the cookie, on another port of the host, can make every token, and no proof."""
    bound = SESSIONS.begin(BOSS, PROOF)
    token = SESSIONS.form_token(bound)
    assert PROOF not in bound
    assert SESSIONS.find(bound) == BOSS
    assert SESSIONS.is_own_form(bound, token, PROOF)
    assert other == PROOF or not SESSIONS.is_own_form(bound, token, other)
    assert not SESSIONS.is_own_form(bound, token, bound.split(".")[3])
    assert not SESSIONS.is_own_form(bound, "", PROOF)
    assert SESSIONS.is_own_form(COOKIE, SESSIONS.form_token(COOKIE), other), "of a browser without scripts"


def test_beyond_this_machine_the_cookie_has_a_name_that_browsers_take_over_https_alone() -> None:
    secure = f"__Secure-{SESSIONS.cookie_name}"
    assert SESSIONS.cookie_header(COOKIE, "llm.example").startswith(f"{secure}={COOKIE}; Path=/console; ")
    assert SESSIONS.cookie_header(COOKIE, "127.0.0.1:8000").startswith(f"{SESSIONS.cookie_name}={COOKIE}; ")
    planted = {"host": "llm.example", "cookie": f"{SESSIONS.cookie_name}=planted; {secure}={COOKIE}"}
    assert SESSIONS.cookie_in(planted) == COOKIE
    assert SESSIONS.cookie_in({"host": "llm.example", "cookie": f"{SESSIONS.cookie_name}=planted"}) == ""
