"""Keys that are missing, wrong, or gone by now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.attack.attack import Attack, attack, refused
from tests.attack.target import Answer, Target

KEYS: list[Attack] = []


@attack(
    "no key, or none that is known",
    "every route without a key, with a wrong one, with one in the query, a cookie or as Basic",
    "401",
    KEYS,
)
def strangers(at: Target) -> tuple[str, bool]:
    known = at.secrets["admin"]
    routes = [
        "/v1/models",
        "/metrics",
        "/v1/decisions/x",
        "/openapi.json",
        "/console",
        "/",
        "/v1/models/auto",
        f"/v1/models?api_key={known}",
    ]
    answers = [at.ask("GET", path, None) for path in routes]
    answers += [at.chat(key=None), at.chat(key="wrong"), at.chat(key=None, path="/v1/messages")]
    answers += [at.ask("GET", "/v1/models", None, headers=given) for given in (
        {"cookie": f"api_key={known}"}, {"authorization": f"Basic {known}"}, {"authorization": known},
        {"authorization": f"Bearer {known}x"}, {"x-forwarded-for": "127.0.0.1"},
    )]  # fmt: skip
    return refused(answers, 401)


def until_status(ask: Callable[[], Answer], wanted: int, seconds: float = 15.0) -> tuple[Answer, float]:
    began = time.monotonic()
    while True:
        answer = ask()
        if answer.status == wanted or time.monotonic() - began > seconds:
            return answer, time.monotonic() - began
        time.sleep(0.1)


@attack(
    "a key that is revoked while it is used",
    "a slow request under way, then the key is taken out of the file",
    "that one is answered, the next is 401 within seconds",
    KEYS,
)
def revoked(at: Target) -> tuple[str, bool]:
    under_way: list[Answer] = []
    asking = threading.Thread(target=lambda: under_way.append(at.chat("[cheap:slow=4] hi", "revoked")))
    asking.start()
    time.sleep(1)
    at.keep_keys(lambda keys: [key for key in keys if key.name != "revoked"])
    after, took_s = until_status(lambda: at.chat("hi", "revoked"), 401)
    asking.join()
    return f"{under_way[0]}; then {after} after {took_s:.1f} s", under_way[0].status == 200 and after.status == 401


def _written(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@attack(
    "the last key is revoked, the file broken or removed",
    "keys.yaml as [], as nonsense, blanked, gone",
    "nobody gets in with []; otherwise the last keys stay; never open",
    KEYS,
    honest_too=False,
)
def last_key(at: Target) -> tuple[str, bool]:
    path = at.state / "keys.yaml"
    kept = path.read_text()
    told, ok = [], True
    try:
        for name, text, wanted in (
            ("nonsense", "{]", 200),
            ("blank", "", 200),
            ("gone", None, 200),
            ("[]", "[]\n", 401),
        ):
            if text is None:
                path.unlink()
            else:
                _written(path, text)
            known, _ = (
                until_status(lambda: at.chat("hi", "honest"), 401, 2.5)
                if wanted == 200
                else until_status(lambda: at.chat("hi", "honest"), 401)
            )
            stranger = at.chat("hi", None)
            told.append(f"{name}: {known.status}, a stranger {stranger.status}")
            ok = ok and known.status == wanted and stranger.status == 401
    finally:
        _written(path, kept)
        until_status(lambda: at.chat("hi", "honest"), 200)
    return "; ".join(told), ok
