"""Convert the messages of a chat request to Anthropic's: a system prompt, and turns made of content blocks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.protocol.thinking_blocks import signed_thoughts
from serve_graph.protocol.tool_calls import arguments_of

ContentBlock = dict[str, Any]
SYSTEM_ROLES = frozenset({"system", "developer"})
NOTHING_ASKED = "(empty message)"  # a conversation begins with the user, who must say something
_CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*?;base64,", re.IGNORECASE)


def system_blocks(messages: Iterable[Mapping[str, Any]]) -> list[ContentBlock]:
    """Return the text of all system messages, wherever they stand: Anthropic has one system prompt."""
    return [
        block
        for message in messages
        if message.get("role") in SYSTEM_ROLES
        for block in blocks_of(message.get("content"))
    ]


def turns_of(messages: Iterable[Mapping[str, Any]], *, thinks: bool) -> list[dict[str, Any]]:
    """Return the user's and the assistant's turns in alternation, the user's first.

    A turn's tool results come before everything else in it. With `thinks`, signed reasoning is passed on.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.get("role") == "assistant" else "user"
        if message.get("role") in SYSTEM_ROLES:
            continue
        blocks = _said(message, thinks) if role == "assistant" else _asked(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if not turns or turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [_text(NOTHING_ASKED)]})
    _trim_beginning(turns[-1])
    return turns


def blocks_of(content: Any) -> list[ContentBlock]:
    """Return the blocks of a message's content; raises DeploymentError for parts that Anthropic does not take.

    Text of white space alone, which some models write beside their calls, is left out: the API refuses it.
    """
    if not isinstance(content, list):
        return [_text(content)] if content and str(content).strip() else []
    return [block for part in content if isinstance(part, Mapping) for block in _block(part)]


def call_id_of(value: Any) -> str:
    """Return a tool call's id in the letters that Anthropic allows, the same one for the same id."""
    given = str(value)
    if _CALL_ID.fullmatch(given):
        return given
    return f"toolu_{hashlib.sha256(given.encode('utf-8', 'replace')).hexdigest()[:24]}"


def _asked(message: Mapping[str, Any]) -> list[ContentBlock]:
    blocks = blocks_of(message.get("content"))
    if message.get("role") != "tool":
        return blocks
    result = {"type": "tool_result", "tool_use_id": call_id_of(message.get("tool_call_id"))}
    return [{**result, "content": blocks} if blocks else result]


def _said(message: Mapping[str, Any], thinks: bool) -> list[ContentBlock]:
    blocks = signed_thoughts(message) if thinks else []
    blocks += blocks_of(message.get("content") or message.get("refusal"))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = arguments_of(function.get("arguments"))
        name = str(function.get("name") or "")
        blocks.append({"type": "tool_use", "id": call_id_of(call.get("id")), "name": name, "input": arguments})
    return blocks


def _block(part: Mapping[str, Any]) -> list[ContentBlock]:
    kind = part.get("type")
    kept = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
    if kind in ("text", "refusal"):
        text = part.get("text") or part.get("refusal")
        return [_text(text) | kept] if text and str(text).strip() else []
    if kind == "image_url":
        image = part.get("image_url")
        url = str(image.get("url") if isinstance(image, Mapping) else image)
        return [{"type": "image", "source": _base64_source(url) or {"type": "url", "url": url}, **kept}]
    if kind == "file":
        file = part.get("file")
        source = _base64_source(str(file.get("file_data"))) if isinstance(file, Mapping) else None
        if source is not None:
            named = {"title": file["filename"]} if file.get("filename") else {}  # type: ignore[union-attr, index]
            return [{"type": "document", "source": source, **named, **kept}]
    raise DeploymentError(f"the tier's API takes no content parts of type {kind!r} as this one is given", 400)


def _base64_source(url: str) -> dict[str, str] | None:
    found = _DATA_URL.match(url)
    return found and {"type": "base64", "media_type": found[1].lower(), "data": url[found.end() :]}


def _text(text: Any) -> ContentBlock:
    return {"type": "text", "text": str(text)}


def _trim_beginning(last: dict[str, Any]) -> None:
    """Take trailing white space off the beginning of an answer: Anthropic refuses it."""
    block = last["content"][-1] if last["content"] else {}
    if last["role"] == "assistant" and block.get("type") == "text":
        block["text"] = block["text"].rstrip()
