"""What is wrong with HTTP itself: heads that two readers read differently, heads and connections without end."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from tests.attack.attack import Attack, attack, refused
from tests.attack.target import Answer, Target

WIRE: list[Attack] = []
CHAT = "POST /v1/chat/completions HTTP/1.1"
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer none\r\n\r\n"
AMBIGUOUS = {
    "two lengths": ("Content-Length: 5", "Content-Length: 6"),
    "a list of lengths": ("Content-Length: 5, 6",),
    "length and chunks": ("Content-Length: 4", "Transfer-Encoding: chunked"),
    "chunks and length": ("Transfer-Encoding: chunked", "Content-Length: 4"),
    "a signed length": ("Content-Length: +5",),
    "a negative length": ("Content-Length: -5",),
    "a length in hex": ("Content-Length: 0x5",),
    "a length with a space": ("Content-Length : 5",),
    "a length of 5,000 digits": ("Content-Length: " + "9" * 5000,),
    "another coding": ("Transfer-Encoding: xchunked",),
    "two codings": ("Transfer-Encoding: chunked, identity",),
    "chunks twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "a tab before chunked": ("Transfer-Encoding:\tchunked", "Content-Length: 4"),
    "a vertical tab": ("Transfer-Encoding: \x0bchunked", "Content-Length: 4"),
    "a folded header": ("X-A: b\r\n c", "Transfer-Encoding:\r\n chunked", "Content-Length: 4"),
    "a bare line feed": ("X-A: b\nTransfer-Encoding: chunked", "Content-Length: 4"),
    "an upgrade": (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Content-Length: 4",
    ),
    "connection lists the length": ("Connection: close, content-length", "Content-Length: 5"),
}


@attack(
    "a request hidden in another",
    f"{len(AMBIGUOUS)} heads that front and back may read differently, an administrator's request behind",
    "never two readings: refused, or 401 for what is behind",
    WIRE,
)
def smuggling(at: Target) -> tuple[str, bool]:
    bad, seen = [], []
    for name, headers in AMBIGUOUS.items():
        head = at.head(CHAT, "Authorization: Bearer KEY", *headers)
        answers = at.raw(head + b"0\r\n\r\n" + SMUGGLED, 3.0, key="attacker")
        seen += answers
        if any(answer.status == 200 or answer.status >= 500 or "serve_graph_" in answer.text for answer in answers):
            bad.append(f"{name}: {', '.join(map(str, answers))}")
    return f"{refused(seen)[0]}{'; ' + '; '.join(bad) if bad else ''}", not bad


@attack(
    "requests one behind the other",
    "50 in one piece, every other without a key; a key in a trailer, and after Expect",
    "each by itself: 200 with the key, 401 without",
    WIRE,
)
def pipelined(at: Target) -> tuple[str, bool]:
    ours, theirs = (at.head("GET /v1/models HTTP/1.1", *key) for key in (("Authorization: Bearer KEY",), ()))
    answers = at.raw((ours + theirs) * 25, 5.0, key="attacker")
    statuses = [answer.status for answer in answers]
    chunk = b"2\r\n{}\r\n0\r\nAuthorization: Bearer KEY\r\n\r\n"
    late = [
        *at.raw(at.head(CHAT, "Transfer-Encoding: chunked", "Trailer: Authorization") + chunk, 3.0, key="attacker"),
        *at.raw(
            at.head(CHAT, "Expect: 100-continue", "Content-Length: 40") + b"Authorization: Bearer KEY\r\n\r\n", 3.0
        ),
    ]
    told, ok = refused(late, 0, 100, 400, 401, 417)
    in_turn = statuses == [200, 401] * (len(statuses) // 2) + [200] * (len(statuses) % 2)
    return f"{refused(answers)[0]}; {told}", ok and in_turn


@attack(
    "headers that are sent twice",
    "two keys, two tiers, two hosts, two request ids, two content types",
    "one of them counts: never more than the lesser key may",
    WIRE,
)
def twice(at: Target) -> tuple[str, bool]:
    pairs = (
        ("Authorization: Bearer none", "Authorization: Bearer KEY"),
        ("Authorization: Bearer KEY", "Authorization: Bearer none"),
        ("Authorization: Bearer KEY", "x-serve-graph-tier: auto", "x-serve-graph-tier: frontier"),
        ("Authorization: Bearer KEY", "Host: localhost"),
        ("Authorization: Bearer KEY", "x-request-id: a", "x-request-id: b"),
        ("Authorization: Bearer KEY", "Cookie: a=b", "Cookie: serve_graph_console=x"),
    )
    answers = [
        answer
        for headers in pairs
        for path in ("/metrics", "/v1/decisions/x", "/console")
        for answer in at.raw(at.head(f"GET {path} HTTP/1.1", *headers, "Connection: close"), 3.0, key="attacker")
    ]
    told, ok = refused(answers, 0, 400, 401, 403, 404)
    return told, ok and not any("serve_graph_" in answer.text for answer in answers)


@attack(
    "chunks that are wrong", "sizes of 16 F, negative, with 1 MB of extension, no end", "400, 408, 413 or closed", WIRE
)
def chunks(at: Target) -> tuple[str, bool]:
    head = at.head(CHAT, "Authorization: Bearer KEY", "Transfer-Encoding: chunked")
    sizes = (
        b"FFFFFFFFFFFFFFFF\r\nx",
        b"-1\r\nx",
        b"5;" + b"e" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhel",
        b"zz\r\n",
    )
    answers = [answer for size in sizes for answer in at.raw(head + size, 6.0, key="attacker")]
    return refused(answers, 0, 400, 408, 413)


@attack(
    "a head that is huge",
    "a header of 1 MB, 20,000 headers, a path of 1 MB, a query of 100 KB",
    "400, 401, 403, 404, 414, 431 or closed",
    WIRE,
)
def heads(at: Target) -> tuple[str, bool]:
    many = [f"X-{i}: y" for i in range(20_000)]
    sent = [
        at.head(CHAT, "X-Long: " + "y" * 1_000_000),
        at.head(CHAT, *many),
        at.head("GET /" + "p" * 1_000_000 + " HTTP/1.1"),
        at.head("GET /metrics?" + "q" * 100_000 + " HTTP/1.1"),
        at.head(CHAT, "Authorization: Bearer " + "k" * 500_000),
        at.head(CHAT, "Cookie: " + "c=1; " * 3_000, "Content-Length: 0"),
    ]
    return refused([answer for head in sent for answer in at.raw(head, 3.0)], 0, 400, 401, 403, 404, 414, 431)


@attack(
    "bytes that no head has",
    "NUL in path, header and method; HTTP/9.9, HTTP/0.9; TLS and SSH to the port; 200 methods",
    "400, 401, 404, 405, 501, 505 or closed",
    WIRE,
)
def odd_heads(at: Target) -> tuple[str, bool]:
    sent = [
        at.head("GET /met\x00rics HTTP/1.1"),
        at.head("GET /metrics HTTP/1.1", "X: a\x00b"),
        at.head("G\x00T / HTTP/1.1"),
        at.head("GET /metrics HTTP/9.9"),
        b"GET /metrics\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\r\n" * 1000,
        at.head("GET /\xff\xfe HTTP/1.1"),
        at.head("GET /metrics HTTP/1.1", "\xe9: x"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        at.head("CONNECT evil.example:443 HTTP/1.1"),
        at.head("OPTIONS * HTTP/1.1"),
        at.head("TRACE /metrics HTTP/1.1"),
        at.head("M" * 200 + " /metrics HTTP/1.1"),
    ]
    answers = [answer for head in sent for answer in at.raw(head, 2.0)]
    return refused(answers, 0, 400, 401, 403, 404, 405, 501, 505)


@attack(
    "a reply that is written by its request",
    "line breaks in x-request-id, session, tier and model, raw and percent-encoded",
    "no header of the attacker's in a reply",
    WIRE,
)
def splitting(at: Target) -> tuple[str, bool]:
    evil = (b"a%0d%0aX-Evil: 1", "a\u560d\u560aX-Evil: 1".encode(), b"a\tX-Evil: 1", b"a" * 4000)
    answers = [at.chat(headers={name: value}) for value in evil for name in ("x-request-id", "x-serve-graph-session")]
    told, _ = refused(answers)
    return told, not any("x-evil" in answer.headers for answer in answers) and all(
        answer.status in (200, 400) for answer in answers
    )


@attack(
    "connections that are opened and left",
    "400 connections that send half a head",
    "others are answered; they are closed within 30 s",
    WIRE,
)
def idle(at: Target) -> tuple[str, bool]:
    with ExitStack() as held:
        callers = [
            held.enter_context(socket.create_connection(("127.0.0.1", at.graph.port), timeout=5)) for _ in range(400)
        ]
        for caller in callers:
            caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        answer = at.chat("hi", "honest")
        left = callers
        while left and time.monotonic() - began < 30:
            left = [caller for caller in left if _is_open(caller)]
            time.sleep(0.5)
    return (
        f"others {answer}; {len(left)} still open after {time.monotonic() - began:.0f} s",
        answer.status == 200 and not left,
    )


def _is_open(caller: socket.socket) -> bool:
    caller.setblocking(False)
    try:
        return bool(caller.recv(1 << 12)) and _is_open(caller)
    except BlockingIOError:
        return True
    except OSError:
        return False


@attack(
    "an upgrade to something else", "WebSocket and h2c on every route", "400, 401, 403, 404, 405, 426 or closed", WIRE
)
def upgrades(at: Target) -> tuple[str, bool]:
    socketed = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    answers: list[Answer] = []
    for path in ("/", "/metrics", "/v1/chat/completions", "/v1/models"):
        answers += at.raw(at.head(f"GET {path} HTTP/1.1", *socketed), 2.0)
    return refused(answers, 0, 400, 401, 403, 404, 405, 426)
