"""Bodies that make somebody work: texts, schemas, parts, tools, numbers, codings, and bodies that do not come."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

from tests.attack.attack import Attack, attack, refused
from tests.attack.target import BODY_TIMEOUT_S, Answer, Target

BODIES: list[Attack] = []
PROMPT = '"messages": [{"role": "user", "content": "hi"}]'
PIECES = ("\n", " ", "a", "1", "(", "[", "`", "\\", "- ", "| ", "a,", ".\n", "<", "é", "\u0000")
SOON_S = 5.0


def body_of(fields: str) -> bytes:
    return f'{{"model": "auto", {PROMPT}, {fields}}}'.encode()


def soon(answers: list[Answer], *wanted: int) -> tuple[str, bool]:
    """As `refused`, with the slowest reply, which must have come within SOON_S.

    429 will do as well: after a body that took long to read the key has to rest, and one of these may be that.
    """
    told, ok = refused(answers, *wanted, 429)
    slowest = max(answer.took_s for answer in answers)
    return f"{told}, slowest {slowest:.1f} s", ok and slowest < SOON_S


@attack(
    "texts that make a pattern backtrack",
    "20,000 newlines; 10,000 of each of 15 pieces",
    "answered within 5 s",
    BODIES,
)
def patterns(at: Target) -> tuple[str, bool]:
    texts = ["\n" * 20_000, *(piece * 10_000 for piece in PIECES), *(f"x{piece * 10_000}y" for piece in PIECES)]
    return soon([at.chat(text) for text in texts], 200, 400)  # 400: longer than the engine's context


@attack(
    "texts that a verifier checks slowly",
    "10 KB answers to judge, of each of 15 pieces",
    "answered within 5 s",
    BODIES,
)
def verified(at: Target) -> tuple[str, bool]:
    texts = [piece * (780 // len(piece)) for piece in PIECES]  # short enough to be tried, and so verified
    return soon([at.chat(text) for text in texts], 200)


def schema(kind: str, size: int) -> dict[str, Any]:
    inner: Any = [{"type": "object", "properties": {"a": {"const": i}}, "required": ["a"]} for i in range(size)]
    asked = {kind: inner} if kind != "not" else {"not": {"anyOf": inner}}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": asked}}


def doubled(depth: int) -> dict[str, Any]:
    """A schema that is small on the wire and 2^depth once its references are followed."""
    defs = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    asked = {"$defs": defs | {f"d{depth}": {"type": "object"}}, "$ref": "#/$defs/d0"}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": asked}}


@attack(
    "a JSON schema that takes for ever to check",
    "anyOf, oneOf, allOf, not of 3,000; 2^40 references; (a+)+$ as pattern",
    "answered or refused within 5 s",
    BODIES,
)
def schemas(at: Target) -> tuple[str, bool]:
    formats = [schema(kind, 3000) for kind in ("anyOf", "oneOf", "allOf", "not")] + [doubled(40)]
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["a"]}
    formats.append({"type": "json_schema", "json_schema": {"name": "x", "schema": pattern}})
    answer = json.dumps({"a": "a" * 400 + "!"})
    return soon([at.chat(answer, response_format=each) for each in formats], 200, 400, 413)


@attack(
    "a body that nests deeply",
    "100,000 brackets; 2,000 objects within each other; tools likewise",
    "400 or 413",
    BODIES,
)
def deep(at: Target) -> tuple[str, bool]:
    nested = '{"a":' * 2000 + "1" + "}" * 2000
    sent = [
        b"[" * 100_000,
        body_of(f'"metadata": {nested}'),
        body_of(f'"tools": [{nested}]'),
        body_of('"x": ' + "[" * 50_000 + "]" * 50_000),
    ]
    return soon([at.send(body) for body in sent], 400, 413)


@attack("a body that is huge", "40 MB of text; 33 MB of spaces; 5 MB in one prompt", "413", BODIES)
def huge(at: Target) -> tuple[str, bool]:
    text = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x" * 5_000_000}]}).encode()
    return soon([at.send(body) for body in (b'"' + b"x" * 40_000_000 + b'"', b" " * 34_000_000, text)], 413)


@attack("content parts without end", "1.8 MB of empty parts; 200,000 messages", "413 or 400", BODIES)
def parts(at: Target) -> tuple[str, bool]:
    empty = ", ".join(['{"type": "text", "text": ""}'] * 60_000)
    many = ", ".join(['{"role": "user", "content": ""}'] * 100_000)
    sent = [
        f'{{"model": "auto", "messages": [{{"role": "user", "content": [{empty}]}}]}}',
        f'{{"model": "auto", "messages": [{many}]}}',
    ]
    return soon([at.send(body.encode()) for body in sent], 400, 413)


@attack("tools without end", "1.5 MB of nested tools; 60,000 tools; the same as functions", "413 or 400", BODIES)
def tools(at: Target) -> tuple[str, bool]:
    tool = '{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {%s}}}}'
    nested = tool % ", ".join(f'"p{i}": {{"type": "object", "properties": {{"q": {{}}}}}}' for i in range(25_000))
    sent = [
        body_of(f'"tools": [{nested}]'),
        body_of(f'"tools": [{", ".join([tool % ""] * 60_000)}]'),
        body_of(f'"functions": [{", ".join(["{}"] * 60_000)}]'),
    ]
    return soon([at.send(body) for body in sent], 400, 413)


@attack(
    "stop sequences without end",
    "400,000 of them; five; one of 1 MB; the same for completions, messages",
    "400 or 413",
    BODIES,
)
def stops(at: Target) -> tuple[str, bool]:
    many = json.dumps([str(i) for i in range(400_000)])
    sent = [at.send(body_of(f'"stop": {many}')), at.chat(stop=list("abcde")), at.chat(stop="x" * 1_000_000)]
    sent.append(at.ask("POST", "/v1/completions", json={"model": "auto", "prompt": "hi", "stop": list("abcde")}))
    sent.append(at.chat(path="/v1/messages", max_tokens=5, stop_sequences=[str(i) for i in range(1000)]))
    return soon(sent, 400, 413)


@attack(
    "lists and names without end",
    "10^6 zeros, 10^5 biases, 10^5 metadata, 10^5 unknown fields, a name of 1 MB",
    "400 or 413",
    BODIES,
)
def lists(at: Target) -> tuple[str, bool]:
    numbered = lambda n: json.dumps({str(i): 1 for i in range(n)})  # noqa: E731
    fields = [
        f'"x": [{"0," * 1_000_000}0]', f'"logit_bias": {numbered(100_000)}', f'"metadata": {numbered(100_000)}',
        numbered(100_000)[1:-1], f'"{"n" * 1_000_000}": 1', f'"user": {json.dumps("u" * 4_500_000)}',
    ]  # fmt: skip
    answers = [at.send(body_of(each)) for each in fields]
    told, ok = soon(answers, 400, 413)
    longest = max(len(answer.text) for answer in answers)
    return f"{told}, longest message {longest} bytes", ok and longest < 10_000


@attack(
    "settings without end",
    "100 KB as user, cache key, tool choice, template settings, biases, a name; 2 MB as format, as tools",
    "400, which names the field",
    BODIES,
)
def settings(at: Target) -> tuple[str, bool]:
    long = "x" * 100_000
    fields: dict[str, Any] = {
        "user": long,
        "prompt_cache_key": long,
        "safety_identifier": long,
        "tool_choice": {"type": "function", "function": {"name": long}},
        "chat_template_kwargs": {"a": [{"b": long}]},
        "modalities": ["text" * 10] * 5_000,
        "logit_bias": {long: 1},
        "guided_json": {"enum": [long]},
        "prediction": {"type": "content", "content": long * 20},
        "response_format": {"type": long * 20},
        "tools": [{"type": "function", "function": {"name": "f", "description": long * 20}}],
    }
    answers = [at.chat(**{name: value}) for name, value in fields.items()]
    told, ok = soon(answers, 400)
    unnamed = [
        name for name, answer in zip(fields, answers, strict=True) if answer.status == 400 and name not in answer.text
    ]
    return f"{told}{f'; not named: {unnamed[0]}' if unnamed else ''}", ok and not unnamed


@attack(
    "numbers that cost time or mean nothing", "1e999, NaN, Infinity, 10^5 digits, −0.5 tokens, 2^63", "400", BODIES
)
def numbers(at: Target) -> tuple[str, bool]:
    odd = ["1e999", "NaN", "-Infinity", "9" * 100_000, "-0.5", str(2**63), "true", '"7"']
    return soon([at.send(body_of(f'"max_tokens": {number}')) for number in odd], 400)


@attack(
    "bytes that are no text",
    "NUL in a prompt; invalid UTF-8; lone surrogates; UTF-16; an empty body; no JSON",
    "400, or answered",
    BODIES,
)
def odd_bytes(at: Target) -> tuple[str, bool]:
    lone = b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}'
    bad = [
        b'{"model": "auto", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        "{}".encode("utf-16"),
        b"",
        b"{",
        b"null",
        b"[]",
        b"\x00",
    ]
    told, ok = refused([at.send(body) for body in bad], 400)
    also, well = refused([at.send(lone), at.chat("a\x00b"), at.chat("\u202e\u0000\ufffe")], 200, 400)
    return f"{told}; {also}", ok and well


@attack(
    "a decompression bomb",
    "64 MB as 64 KB of gzip; gzip in gzip; five codings; codings unknown, cut short",
    "413, 415 or 400",
    BODIES,
)
def bombs(at: Target) -> tuple[str, bool]:
    bomb = gzip.compress(b" " * 64_000_000)
    sent = [
        at.send(bomb, content_encoding="gzip"),
        at.send(gzip.compress(bomb), content_encoding="gzip, gzip"),
        at.send(bomb, content_encoding="gzip, gzip, gzip, gzip, gzip"),
        at.send(b"x", content_encoding="rot13"),
        at.send(bomb[:100], content_encoding="gzip"),
    ]
    return soon(sent, 400, 413, 415)


@attack(
    "a body that comes byte by byte",
    f"a byte every 0.2 s, for {BODY_TIMEOUT_S + 5:g} s; a body that never comes",
    f"408 or closed after {BODY_TIMEOUT_S:g} s",
    BODIES,
)
def slow(at: Target) -> tuple[str, bool]:
    head = at.head(
        "POST /v1/chat/completions HTTP/1.1",
        f"Authorization: Bearer {at.secrets['attacker']}",
        "Content-Length: 60000",  # larger ones of a key that has to rest are refused before they come
    )
    told, ok = [], True
    for drips in (True, False):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", at.graph.port), timeout=0.2) as caller:
            caller.sendall(head)
            status = b""
            while not status and time.monotonic() - began < BODY_TIMEOUT_S + 5:
                try:
                    if drips:
                        caller.sendall(b" ")
                    status = caller.recv(1 << 12) or b"closed"
                except TimeoutError:
                    continue
                except OSError:
                    status = b"closed"
        came = status[9:12] if status.startswith(b"HTTP") else status or b"nothing"
        told.append(f"{came.decode()} after {time.monotonic() - began:.1f} s")
        ok = ok and (status.startswith(b"HTTP/1.1 408") or status == b"closed")
    return "; ".join(told), ok
