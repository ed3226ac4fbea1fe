"""Read conversations where a prompt is expected: a list of chat messages, or its JSON as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types.exchange import Message, Query

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def chat_of(prompt: object) -> list[dict[str, Any]] | None:
    """Return the messages of a prompt that is a conversation; None where it is a plain text.

    Parameters
    ----------
    prompt : object
        A text, a list of chat messages in OpenAI's form, or the JSON of one.

    Returns
    -------
    list of dict or None

    Raises
    ------
    ValueError
        For a list that holds no messages, or parts that are no text, and for anything that is neither text nor list.
    """
    if isinstance(prompt, str):
        found = _json_list(prompt)
        if not found or not all(isinstance(one, dict) and "role" in one for one in found):
            return None
    elif isinstance(prompt, Sequence) and not isinstance(prompt, bytes):
        found = list(prompt)
    else:
        raise ValueError(f"a prompt is a text or a list of chat messages, found {shown(prompt)}")
    messages = [_message(one) for one in found]
    if not routed_text(messages).strip():
        raise ValueError("the conversation holds no text")
    return messages


def routed_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that a served request with these messages is routed on (`Query.text`)."""
    return Query(tuple(Message(one["role"], plain_text(one.get("content"))) for one in messages)).text


def shown(value: object) -> str:
    """Return a value as an error message quotes it: short, and of its type where that is what matters."""
    text = f"{value!r}".encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _message(one: object) -> dict[str, Any]:
    if not isinstance(one, Mapping) or one.get("role") not in ROLES:
        raise ValueError(f"a chat message is an object with a role ({', '.join(sorted(ROLES))}), found {shown(one)}")
    content = one.get("content")
    parts = content if isinstance(content, list) else []
    if not (content is None or isinstance(content, str | list)) or not all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str | None) for part in parts
    ):
        raise ValueError(f"a chat message's content is a text or a list of parts, found {shown(content)}")
    other = next((part["type"] for part in parts if part.get("type", "text") not in TEXT_PARTS), None)
    if other is not None:
        raise ValueError(f"a part of type {shown(other)} is no text, and routers read text alone: leave it out")
    return {name: value for name, value in one.items() if value is not None or name == "content"}


def plain_text(content: str | list[Mapping[str, Any]] | None) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("text"))
    return content or ""
