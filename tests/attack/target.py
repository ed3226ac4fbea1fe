"""The graph that is attacked, and what an attacker needs to reach it: keys, a port, and the bytes of a request."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_graph.access.keys import key_hash, locked, new_key, read_keys, write_keys
from serve_graph.config.access import KeyConfig
from tests.cluster.graphs.running_graph import RunningGraph
from tests.fixtures.servers.apis import Api

BODY_TIMEOUT_S = 3.0
LONG = "a long question " * 60  # the builtin version sends prompts over 800 characters to the last tier
CANARY = "canary-of-a-prompt-4711"
LIMITS: dict[str, dict[str, Any]] = {  # every key of the attacked graph, and what it may do
    "honest": {},
    "admin": {"scopes": ("use", "force", "admin")},
    "attacker": {"max_tokens": 256, "max_choices": 2, "max_quality_floor": 0.9, "concurrency": 8},
    "flooding": {"concurrency": 4},
    "hurried": {"requests_per_min": 5},
    "poor": {"usd_per_day": 0.02, "max_tokens": 100},
    "leaving": {"usd_per_day": 0.02, "max_tokens": 100},
    "revoked": {},
}
ECHO_PRICE = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2}
DEAR_PRICE = {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10.0}


@dataclass
class Answer:
    """A reply as the attacker sees it: `status` 0 where the connection ended without one."""

    status: int
    text: str = ""
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    took_s: float = 0.0

    @property
    def code(self) -> str:
        """OpenAI's code or type of an error, '' where the reply is none."""
        try:
            error = json.loads(self.text)["error"]
            return str(error.get("code") or error["type"])
        except (ValueError, KeyError, TypeError):
            return ""

    def __str__(self) -> str:
        return f"{self.status or 'closed'}{f' {self.code}' if self.code else ''}"


@dataclass
class Target:
    """A running graph with keys (or without any: `secrets` is empty), and the scripted API behind its last tier."""

    graph: RunningGraph
    secrets: dict[str, str]
    api: Api
    elsewhere: Api

    @property
    def state(self) -> Path:
        return self.graph.state

    def ask(
        self,
        method: str,
        path: str,
        key: str | None = "attacker",
        timeout_s: float = 60.0,
        headers: dict[str, Any] | None = None,
        **content: Any,
    ) -> Answer:
        """Send one request with a key by its name, over a connection of its own; `content` as httpx has it."""
        sent = dict(headers or {})
        if key is not None and key in self.secrets:
            sent["authorization"] = f"Bearer {self.secrets[key]}"
        if key == "wrong":
            sent["authorization"] = f"Bearer {new_key()}"
        began = time.monotonic()
        try:
            with httpx.Client(base_url=self.graph.url, timeout=timeout_s) as client:
                reply = client.request(method, path, headers=sent, **content)
        except httpx.TimeoutException:
            return Answer(0, f"no answer within {timeout_s:g} s", took_s=time.monotonic() - began)
        except httpx.HTTPError as error:  # the server closed the connection, as it may
            return Answer(0, type(error).__name__, took_s=time.monotonic() - began)
        return Answer(reply.status_code, reply.text, reply.headers, time.monotonic() - began)

    def chat(self, content: Any = "hello", key: str | None = "attacker", **fields: Any) -> Answer:
        """Ask a chat question; `path` and `headers` may be given among the fields."""
        path, headers = fields.pop("path", "/v1/chat/completions"), fields.pop("headers", None)
        body = {"model": "auto", "messages": [{"role": "user", "content": content}], **fields}
        return self.ask("POST", path, key, headers=headers, json=body)

    def send(self, body: bytes, key: str | None = "attacker", **headers: str) -> Answer:
        """POST these bytes to the chat route."""
        named = {"content-type": "application/json"} | {name.replace("_", "-"): v for name, v in headers.items()}
        return self.ask("POST", "/v1/chat/completions", key, headers=named, content=body)

    def raw(self, sent: bytes, wait_s: float = 5.0, key: str | None = None) -> list[Answer]:
        """Write bytes to a socket; returns every reply that comes until the other side closes or is silent."""
        if key is not None:
            sent = sent.replace(b"KEY", self.secrets[key].encode())
        with socket.create_connection(("127.0.0.1", self.graph.port), timeout=wait_s) as caller:
            try:
                caller.sendall(sent)
                return _replies(_until_silent(caller, wait_s))
            except OSError:
                return [Answer(0)]

    def head(self, line: str, *headers: str) -> bytes:
        """The head of a request as bytes: its first line, a host, and these headers."""
        return "\r\n".join([line, f"Host: 127.0.0.1:{self.graph.port}", *headers, "", ""]).encode("latin-1")

    def keep_keys(self, change: Callable[[tuple[KeyConfig, ...]], Sequence[KeyConfig]]) -> None:
        """Change the keys file, as `serve-graph keys` does."""
        path = self.state / "keys.yaml"
        with locked(path):
            write_keys(path, change(read_keys(path)))


def _until_silent(caller: socket.socket, wait_s: float) -> bytes:
    received = b""
    caller.settimeout(wait_s)
    try:
        while part := caller.recv(1 << 16):
            received += part
            caller.settimeout(min(wait_s, 1.0))
    except OSError:
        pass
    return received


def _replies(received: bytes) -> list[Answer]:
    """The replies in what a socket received, one after the other (none of them has a body that looks like a head)."""
    parts = re.split(rb"(?=HTTP/1\.[01] \d{3} )", received)
    found = [part for part in parts if part.startswith(b"HTTP/1.")]
    answers = []
    for part in found:
        _, _, body = part.partition(b"\r\n\r\n")
        answers.append(Answer(int(part[9:12]), body.decode("utf-8", "replace")))
    return answers or [Answer(0)]


def configuration(api: Api, secret_file: Path) -> dict[str, Any]:
    """What differs from configs/echo.yaml: the last tier is a scripted API, limits are short enough to be met."""
    hosted = {
        "name": "frontier", "engine": "openai", "model": "large", "base_url": api.url,
        "api_key_file": str(secret_file), "price": DEAR_PRICE, "context_tokens": 1_000_000,
        "failover": {"max_attempts": 1, "trip_after": 1000},
    }  # fmt: skip
    return {
        "tiers": [{"name": "cheap", "engine": "echo", "price": ECHO_PRICE, "context_tokens": 1_000_000}, hosted],
        "records": {"retry_s": 0.3, "redact": [r"\d{4}-\d{4}-\d{4}-\d{4}"]},
        "http": {"body_timeout_s": BODY_TIMEOUT_S},
        "access": {"refresh_s": 0.5},
    }


@contextmanager
def attacked(keys: bool = True, seconds_to_answer: float = 20.0) -> Iterator[Target]:
    """Start a graph of one's own, and stop it and everything that it started, when this process is ended too.

    `keys`: with those of LIMITS, in its keys file; without any where False. `seconds_to_answer`: its tiers' time-out.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="sg-attack-", dir="/tmp")))
        api, elsewhere = Api("upstream"), Api("elsewhere")
        ended.callback(elsewhere.stop)
        ended.callback(api.stop)
        state = folder / "state"
        state.mkdir(mode=0o755)  # as somebody may have made it
        secret_file = folder / "upstream-key"
        secret_file.write_text("sk-of-the-operator\n")
        secrets = {name: new_key() for name in LIMITS} if keys else {}
        if keys:
            known = [
                KeyConfig.model_validate({"name": name, "sha256": key_hash(secrets[name]), **LIMITS[name]})
                for name in secrets
            ]
            write_keys(state / "keys.yaml", known)
        graph = RunningGraph(state, configuration(api, secret_file), seconds_to_answer)
        graph.start()
        ended.callback(graph.end)
        yield Target(graph, secrets, api, elsewhere)


class Watcher:
    """An honest caller who asks all the time while others attack: how long it waited at most, and what went wrong."""

    def __init__(self, target: Target, every_s: float = 0.25) -> None:
        self.target, self.every_s = target, every_s
        self.slowest_s, self.failures = 0.0, list[str]()
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._over.is_set():
            answer = self.target.chat("an honest question", "honest")
            self.slowest_s = max(self.slowest_s, answer.took_s)
            if answer.status != 200:
                self.failures.append(str(answer))
            self._over.wait(self.every_s)

    def __enter__(self) -> Watcher:
        self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._asking.join(90)


def config_of(target: Target) -> dict[str, Any]:
    """The configuration that the graph was started with."""
    found: dict[str, Any] = yaml.safe_load((target.state / "graph.yaml").read_text())
    return found
