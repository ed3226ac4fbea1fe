"""Read conversations where a prompt is expected: a list of chat messages, or its JSON as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router_models.types.exchange import Message, Query

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
TOOL_ROLES = frozenset({"tool", "function"})
"""Whose messages bear the name of a tool; any other name (of a speaker) reaches the model and no router."""
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
    return Query(tuple(map(read_message, messages))).text


def read_message(message: Mapping[str, Any]) -> Message:
    """Return a chat message as routers read it: its text, the calls of tools that it holds, and a tool's name.

    Calls are read by the name of their function and by their arguments, as an engine's chat template shows them.
    """
    text, role = plain_text(message.get("content")), str(message.get("role"))
    calls = message.get("tool_calls")
    said = [_read_call(call) for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    if isinstance(former := message.get("function_call"), Mapping):
        said.append(_read_call({"function": former}))
    if role in TOOL_ROLES and isinstance(name := message.get("name"), str):
        said.append(name)
    return Message(role, "\n".join(filter(None, (text, *said))) if said else text)


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


def _read_call(call: Mapping[str, Any]) -> str:
    """Return name and arguments of a call; those of a custom tool are its input."""
    made = call.get("function") or call.get("custom")
    if not isinstance(made, Mapping):
        return ""
    given = [made.get(name) for name in ("name", "arguments", "input")]
    return " ".join(one if isinstance(one, str) else _spelled(one) for one in map(_unescaped, given) if one)


def _unescaped(text: Any) -> Any:
    """Return JSON without the escapes that hide its letters from a reader, but not from a model.

    Members of one name all stay, which JSON's readers keep the last of.
    """
    if isinstance(text, str) and "\\u" in text:
        try:
            return json.loads(text, object_pairs_hook=_all_members)
        except (ValueError, RecursionError):
            return text
    return text


def _all_members(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    return members if len(members) == len(pairs) else pairs


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def plain_text(content: str | list[Mapping[str, Any]] | None) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("text"))
    return content or ""


def whole_characters(text: str) -> str:
    """Return a text with half characters (lone surrogates) replaced as by a decoder.

    Tables cannot hold them, and tokenizers do not read them.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
