"""Ways in that are not meant: paths, hosts, pages, and what others keep."""

from __future__ import annotations

import time

from tests.attack.attack import Attack, at_once, attack, refused
from tests.attack.target import CANARY, Answer, Target

DOORS: list[Attack] = []
OPEN_DOORS: list[Attack] = []
"""Attacks on a graph without keys, which is this machine's alone."""
SECRET_WORDS = ("serve_graph_requests_total", "p_cheap", "threshold", "explanation", CANARY)


def closed(at: Target, paths: list[str], key: str | None = "attacker", method: str = "GET") -> tuple[str, bool]:
    """Whether no path answers with what only administrators may see; refusals and unknown paths are all the same."""
    answers = at_once(lambda path: _as_written(at, path, key, method), paths)
    told, ok = refused(answers, 400, 401, 403, 404, 405)
    leaked = [path for path, answer in zip(paths, answers, strict=True) if any(w in answer.text for w in SECRET_WORDS)]
    opened = [
        path for path, answer in zip(paths, answers, strict=True) if answer.status not in (0, 400, 401, 403, 404, 405)
    ]
    return f"{told}{f'; shown by {(leaked or opened)[0]}' if leaked or opened else ''}", (
        ok or not opened
    ) and not leaked


def _as_written(at: Target, path: str, key: str | None, method: str = "GET", *headers: str) -> Answer:
    """A request whose path no client has tidied."""
    with_key = [f"Authorization: Bearer {at.secrets[key]}"] if key is not None else []
    return at.raw(at.head(f"{method} {path} HTTP/1.1", *with_key, *headers, "Connection: close"))[0]


def decision(at: Target, key: str = "honest") -> str:
    """The id of somebody's request, whose record is in the store by now."""
    name = at.chat("hello", key).headers["x-serve-graph-decision"]
    for _ in range(50):
        if at.ask("GET", f"/v1/decisions/{name}", "admin").status == 200:
            return str(name)
        time.sleep(0.2)
    raise AssertionError("no record of an honest request")


PREFIXES = (
    "",
    "/",
    "/.",
    "/v1",
    "/v1/v1",
    "/openai",
    "/openai/v1",
    "/api",
    "/api/v1",
    "/anthropic",
    "/anthropic/v1",
    "/prefix",
    "/v1/models/..",
    "/%2e",
    "/healthz/..",
    "/readyz/..",
    "/-/..",
)
WRITTEN = (
    "/metrics",
    "/metrics/",
    "//metrics",
    "/%6detrics",
    "/METRICS",
    "/metrics;x=1",
    "/metrics%00",
    "/metrics%2f",
    "/metrics?x=/healthz",
    "/metrics#/healthz",
    "/healthz%2f..%2fmetrics",
    "/./metrics",
    "\\metrics",
    "/console",
    "/console/",
)


@attack(
    "an administrator's path, written another way",
    f"{len(PREFIXES) * len(WRITTEN)} spellings of /metrics and /console with a key that may only ask",
    "400, 401, 403, 404 or 405",
    DOORS,
)
def spelled(at: Target) -> tuple[str, bool]:
    return closed(at, [prefix + written for prefix in PREFIXES for written in WRITTEN])


@attack(
    "an administrator's path, named by a header",
    "X-Original-URL, X-Rewrite-URL, X-Forwarded-Prefix, method overrides, an absolute request line",
    "not shown",
    DOORS,
)
def by_header(at: Target) -> tuple[str, bool]:
    headers = (
        "X-Original-URL: /metrics",
        "X-Rewrite-URL: /metrics",
        "X-Forwarded-Prefix: /metrics",
        "X-Forwarded-Path: /metrics",
        "X-HTTP-Method-Override: GET",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1;host=localhost",
    )
    hosts = ("127.0.0.1", "localhost", "metrics.internal")
    sent = [("/healthz", "GET", header) for header in headers]
    sent += [("/metrics", method, header) for method in ("GET", "HEAD", "POST", "TRACE", "PUT") for header in headers]
    sent += [(f"http://{host}/metrics", "GET", "X: y") for host in hosts]
    answers = at_once(lambda each: _as_written(at, each[0], "attacker", *each[1:]), sent)
    told, _ = refused(answers)
    return told, not any(word in answer.text for answer in answers for word in SECRET_WORDS) and not any(
        answer.status >= 500 for answer in answers
    )


@attack(
    "somebody else's decision",
    "its id under 24 spellings of the path, with a key that may only ask, and without one",
    "400, 401, 403 or 404",
    DOORS,
)
def others(at: Target) -> tuple[str, bool]:
    name = decision(at)
    prefixes = (
        "/v1",
        "",
        "/v1/v1",
        "/openai/v1",
        "/api/v1",
        "/anthropic/v1",
        "/prefix/v1",
        "//v1",
        "/v1/models/..",
        "/v1/chat/..",
        "/V1",
        "/%76%31",
    )
    paths = [f"{prefix}/{word}/{name}" for prefix in prefixes for word in ("decisions", "Decisions")]
    told, ok = closed(at, paths)
    also, well = closed(at, paths, None)
    return f"{told}; without a key {also}", ok and well


@attack(
    "what readiness tells a stranger",
    "/readyz and /healthz without a key, with a wrong one; /-/routes",
    "one word, no promise, no digest, no error",
    DOORS,
)
def readiness(at: Target) -> tuple[str, bool]:
    answers = [at.ask("GET", "/readyz", None), at.ask("GET", "/readyz", "wrong"), at.ask("GET", "/healthz", None)]
    words = ("promise", "version", "digest", "frontier", "cheap", "epsilon", "error")
    told = [word for answer in answers for word in words if word in answer.text]
    return (
        f"{refused(answers)[0]}{f', which tells {chr(44).join(sorted(set(told)))}' if told else ''}",
        not told and all(answer.status in (200, 401) for answer in answers),
    )


@attack(
    "ids and models that are no names",
    "NUL, quotes, SQL, 64 KB, ../ and Unicode as decision, model and session",
    "400, 401, 403, 404 or 414",
    DOORS,
)
def odd_names(at: Target) -> tuple[str, bool]:
    names = ("%00", "'%20OR%201=1--", "..%2f..%2fetc%2fpasswd", "%F0%9F%92%A9", "%ff", "x" * 12_000)
    answers = [at.ask("GET", f"/v1/{what}/{name}", "admin") for what in ("decisions", "models") for name in names]
    answers += [at.chat(model=name) for name in ("'; DROP TABLE decisions", "x" * 300, "\x00")]
    return refused(answers, 400, 403, 404, 414)


@attack(
    "a page of another origin",
    "Origin of an evil site, null, look-alikes of localhost, on every kind of route",
    "403, and nothing to read",
    OPEN_DOORS,
)
def pages(at: Target) -> tuple[str, bool]:
    origins = (
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example:80#@localhost",
        "http://localhost@evil.example",
        "file://",
    )
    answers = [at.chat(key=None, headers={"origin": origin}) for origin in origins]
    answers += [
        at.ask("GET", path, None, headers={"origin": origin})
        for origin in origins
        for path in ("/metrics", "/v1/models")
    ]
    told, ok = refused(answers, 403)
    return told, ok and not any("access-control-allow-origin" in answer.headers for answer in answers)


@attack(
    "a public name that leads to this machine",
    "Host of another's domain on /metrics, /v1/models, decisions and chat",
    "403",
    OPEN_DOORS,
)
def rebinding(at: Target) -> tuple[str, bool]:
    hosts = (
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.nip.example",
        "",
        "evil.example, localhost",
        "localhost evil.example",
    )
    answers = []
    for host in hosts:
        for path in ("/metrics", "/v1/models", "/v1/decisions/x"):
            sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            answers.append(at.raw(sent)[0])
    told, ok = refused(answers, 400, 403)
    return told, ok


@attack(
    "a graph without keys, from its network address",
    "every port that its processes listen on, by this machine's other addresses",
    "closed, or refused",
    OPEN_DOORS,
)
def from_outside(at: Target) -> tuple[str, bool]:
    from tests.attack.files import told_from_outside

    return told_from_outside(at)
