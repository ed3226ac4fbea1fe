"""What is left on disk, what listens beside the endpoint, and what an API behind a tier may do."""

from __future__ import annotations

import http.client
import socket
import stat
import time
from pathlib import Path

import psutil

from tests.attack.attack import Attack, attack, refused
from tests.attack.target import CANARY, LONG, Target

FILES: list[Attack] = []
HARNESS = {"graph.yaml", "graph.log"}
"""What the attacker's own start of the graph wrote."""
CARD = "4111-1111-1111-1111"


@attack(
    "another user of this machine who reads records",
    "the modes of the state folder (made with 0755), and of records, spool and keys in it",
    "0700 and 0600",
    FILES,
)
def modes(at: Target) -> tuple[str, bool]:
    found = [path for path in at.state.rglob("*") if path.is_file() and path.name not in HARNESS]
    private = [path for path in found if path.name.startswith(("decisions", "keys")) or "spool" in str(path)]
    wide = [f"{path.name} {stat.S_IMODE(path.stat().st_mode):o}" for path in private if path.stat().st_mode & 0o077]
    folder = stat.S_IMODE(at.state.stat().st_mode)
    told = f"the folder {folder:o}, {len(private)} files, open to others: {', '.join(wide) or 'none'}"
    return told, folder == 0o700 and len(private) > 2 and not wide


@attack(
    "words that stay behind",
    "a prompt, a card number as metadata, user and session, a tool result; then every file and log is searched",
    "found nowhere, with a pattern for card numbers in records.redact",
    FILES,
)
def at_rest(at: Target) -> tuple[str, bool]:
    kept = {"note": CARD, "serve_graph.task": "x"}
    at.chat(f"{CANARY} [cheap:unsure]", metadata=kept, user=CARD, safety_identifier=CARD)
    at.chat(f"{CANARY} {LONG}", metadata=kept, serve_graph={"session": CARD})
    at.chat(f"{CANARY} [upstream:fail=500] {LONG}")
    at.chat(f"{CANARY} [cheap:fail] [upstream:fail]")
    at.chat(f"{CANARY} [cheap:refuse]")
    at.send(f'{{"model": "auto", "messages": "{CANARY} {CARD}"}}'.encode())
    at.chat(CANARY, model=CANARY)
    at.chat(CANARY, headers={"x-serve-graph-session": CARD, "x-request-id": "req"})
    at.raw(at.head("POST /v1/chat/completions HTTP/1.1", f"X-{CANARY}: {CARD}", "Content-Length: x"))
    time.sleep(2)
    searched, found = 0, []
    for path in _files(at):
        content = _content(path)
        searched += 1
        if path.name not in HARNESS - {"graph.log"} and any(word.encode() in content for word in (CANARY, CARD)):
            found.append(path.name)
    return f"{searched} files searched, found in {', '.join(sorted(set(found))) or 'none'}", searched > 3 and not found


@attack(
    "keys that stay behind",
    "every key that was used here, and the API's, are searched in every file and log",
    "found nowhere",
    FILES,
)
def keys_at_rest(at: Target) -> tuple[str, bool]:
    secrets = [*at.secrets.values(), "sk-of-the-operator"]
    found = sorted({path.name for path in _files(at) if any(secret.encode() in _content(path) for secret in secrets)})
    return f"found in {', '.join(found) or 'none'}", not found


def _files(at: Target) -> list[Path]:
    """The graph's files and its processes' logs: the state folder, Ray's session and the proxy's folder."""
    folders = {at.state, *_opened_folders(at)}
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a spooled record that is in the store by now
        return b""


def _opened_folders(at: Target) -> set[Path]:
    sessions = set()
    for process in at.graph.processes():
        try:
            opened = [Path(file.path) for file in process.open_files()]
        except psutil.Error:
            continue
        for path in opened:
            for parent in path.parents:
                if parent.name.startswith("session_") and parent.parent.name == "ray":
                    sessions.add(parent / "logs")
    return {folder for folder in sessions if folder.is_dir()}


def listeners(at: Target) -> list[tuple[str, int, str]]:
    """Address, port and process of everything of this graph that listens."""
    found = set()
    for process in at.graph.processes():
        try:
            name = process.name()
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    found.add((each.laddr.ip, each.laddr.port, name))
        except psutil.Error:
            continue
    return sorted(found)


def own_address() -> str | None:
    """An address of this machine that is not loopback; None where it has none."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    return None


def _asked(host: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read(1 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def told_from_outside(at: Target) -> tuple[str, bool]:
    """Whether what listens on every interface tells or does anything for who is not on this machine and has no key."""
    address = own_address()
    if address is None:
        return "this machine has no other address", True
    listening = listeners(at)
    wide = [(port, name) for ip, port, name in listening if not ip.startswith(("127.", "::1"))]
    told = []
    for port, name in wide:
        for path in ("/metrics", "/stats", "/v1/models", "/v1/decisions/x", "/readyz"):
            status, text = _asked(address, port, path)
            if status == 200 and any(word in text for word in ("serve_graph_", "haproxy", "frontier", "object")):
                told.append(f"{name}:{port}{path}")
    proxy = [f"{name}:{port}" for port, name in wide if "haproxy" in name]
    found = [f"{len(listening)} ports, {len(wide)} of them wide", *(f"told by {each}" for each in told[:1])]
    found += [f"the proxy listens wide: {each}" for each in proxy[:1]]
    return "; ".join(found), bool(listening) and not told and not proxy


@attack(
    "the proxy's statistics and every port beside the endpoint",
    "each port that the graph's processes listen on, from this machine's network address",
    "nothing told, the proxy on loopback only",
    FILES,
)
def beside(at: Target) -> tuple[str, bool]:
    return told_from_outside(at)


@attack(
    "an API that redirects prompts elsewhere",
    "301, 302, 303, 307 and 308 to another server",
    "502 or 503, the other server sees nothing",
    FILES,
)
def redirects(at: Target) -> tuple[str, bool]:
    statuses = (301, 302, 303, 307, 308)
    before = at.elsewhere.state()["seen"]
    answers = []
    for status in statuses:
        at.api.plays({"raw": "", "status": status, "headers": {"location": f"{at.elsewhere.url}/chat/completions"}})
        answers.append(at.chat(LONG, "admin", model="frontier"))
    at.api.plays()
    seen = at.elsewhere.state()["seen"] - before
    told, ok = refused(answers, 500, 502, 503)
    return f"{told}; elsewhere {seen}", ok and seen == 0


@attack(
    "an API whose errors name accounts and keys",
    "401, 403, 404, 429 and 500 with an account, an organisation and a key in their wording",
    "none of it in the reply",
    FILES,
)
def wording(at: Target) -> tuple[str, bool]:
    message = "Incorrect API key provided: sk-live-SECRET for org-SECRET at https://SECRET.internal"
    answers = []
    for status in (401, 403, 404, 429, 500, 200):
        at.api.plays(
            {
                "json": {"error": {"message": message, "code": "x", "type": "y"}},
                "status": status,
                "headers": {"openai-organization": "org-SECRET"},
            }
        )
        answers.append(at.chat(LONG, "admin", model="frontier"))
        answers.append(at.chat(LONG, "admin", model="frontier", stream=True))
    at.api.plays()
    told, _ = refused(answers)
    return told, not any("SECRET" in answer.text + str(answer.headers) for answer in answers)
