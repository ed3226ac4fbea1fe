"""Parts of messages that are no text, every place where one may stand, and requests that hold them."""

from dataclasses import replace
from typing import Any

from router_models.types import Query
from serve_graph.protocol.requests import ChatRequest, chat_query

PNG = "data:image/png;base64,iVBORw0KGgo="
SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PARTS: dict[str, list[dict[str, Any]]] = {
    "image": [
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "input_image", "image_url": PNG},
        {"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo="}},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "text", "text": "look", "image_url": {"url": PNG}},
    ],
    "audio": [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "https://example.com/x.mp3"}},
    ],
    "video": [{"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}}, {"type": "input_video"}],
    "file": [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "document", "source": {"type": "text"}},
    ],
    "unknown": [{"type": "hologram", "data": "AAAA"}, {"type": "IMAGE_URL"}],
}
KINDS = [(kind, part) for kind, parts in PARTS.items() for part in parts]
TEXT = {"type": "text", "text": "what is in this picture?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


POSITIONS: dict[str, Any] = {
    "alone": lambda part: [user([part])],
    "beside text": lambda part: [user([TEXT, part])],
    "system": lambda part: [{"role": "system", "content": [TEXT, part]}, user("what is it?")],
    "an earlier turn": lambda part: [user([TEXT, part]), {"role": "assistant", "content": "A cat."}, user("sure?")],
    "the assistant's turn": lambda part: [user("draw"), {"role": "assistant", "content": [part]}, user("sure?")],
    "a tool's result": lambda part: [
        user("look"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [part]},
    ],
    "parts in a part": lambda part: [user([{"type": "tool_result", "content": [TEXT, part]}])],
}


def query_of(messages: list[dict[str, Any]], **fields: Any) -> Query:
    body = {"model": "auto", "messages": messages} | {k: v for k, v in fields.items() if k in ChatRequest.model_fields}
    query = chat_query(ChatRequest.model_validate(body))
    return replace(query, parameters={**query.parameters, **fields})
