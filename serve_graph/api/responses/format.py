"""Convert chat replies and chunks to the shape of `/v1/responses`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from serve_graph.api.responses.items import Items
from serve_graph.api.responses.request import ResponsesRequest
from serve_graph.api.transport.sse import Chunks, Events, event

CUT: Mapping[str, str] = MappingProxyType({"length": "max_output_tokens", "content_filter": "content_filter"})
"""The finish reasons of incomplete responses, with what `incomplete_details` says of them."""


@dataclass(frozen=True, slots=True)
class ResponsesFormat:
    """The response format of one request; `request` is echoed in the response object, as OpenAI does."""

    request: ResponsesRequest

    def whole(self, reply: dict[str, Any]) -> dict[str, Any]:
        choice = reply["choices"][0]
        items = Items(reply["id"])
        items.take(choice["message"])
        items.close(_ending(choice["finish_reason"]))
        response = self._response(reply, "completed") | {"output": items.done()}
        return self._finished(response, choice["finish_reason"], reply)

    async def events(self, chunks: Chunks) -> Events:
        """Yield typed, numbered events; a failure ends them with `error` and `response.failed`."""
        number = 0
        async with aclosing(chunks):
            stream = _ResponseStream(self)
            async for chunk in chunks:
                for data in stream.events(chunk):
                    yield event(data | {"sequence_number": number}, data["type"])
                    number += 1

    def _response(self, reply: Mapping[str, Any], status: str) -> dict[str, Any]:
        request = self.request
        echoed = request.model_dump(mode="json", by_alias=True)
        text = {name: value for name, value in (echoed["text"] or {}).items() if value is not None}
        return {
            "id": f"resp_{reply['id'].removeprefix('chatcmpl-')}",
            "object": "response",
            "created_at": reply["created"],
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": reply["model"],
            "output": [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
            "store": False,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}} | text,
            "tool_choice": echoed["tool_choice"] or "auto",
            "tools": echoed["tools"] or [],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": request.user,
            "metadata": dict(request.metadata or {}),
        }

    def _finished(
        self, response: dict[str, Any], finish_reason: str | None, reply: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a response with its final status, usage and `serve_graph` object."""
        if cut := CUT.get(finish_reason or ""):
            response |= {"status": "incomplete", "incomplete_details": {"reason": cut}}
        usage = reply.get("usage")
        tariff = {"service_tier": reply["service_tier"]} if "service_tier" in reply else {}
        return response | {"usage": _usage(usage) if usage else None, "serve_graph": reply["serve_graph"], **tariff}


class _ResponseStream:
    """The state of one stream: its response object and the output items so far."""

    def __init__(self, response_format: ResponsesFormat) -> None:
        self.response_format = response_format
        self.choice: int | None = None
        self.reason: str | None = None
        self.response: dict[str, Any] = {}
        self.items = Items("")

    def events(self, chunk: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the events that one chunk produces."""
        if "error" in chunk:
            yield from self._failed(chunk["error"])
            return
        if not self.response:
            self.response = self.response_format._response(chunk, "in_progress")
            self.items = Items(chunk["id"])
            yield {"type": "response.created", "response": dict(self.response)}
            yield {"type": "response.in_progress", "response": dict(self.response)}
        for choice in chunk["choices"]:
            self.choice = choice["index"] if self.choice is None else self.choice
            if choice["index"] == self.choice:  # a response holds one choice, even if the tier returns more
                yield from self.items.take(choice["delta"])
                self.reason = choice["finish_reason"] or self.reason
        if "serve_graph" in chunk:
            yield from self.items.close(_ending(self.reason))
            done = self.response | {"status": "completed", "output": self.items.done()}
            done = self.response_format._finished(done, self.reason, chunk)
            yield {"type": f"response.{done['status']}", "response": done}

    def _failed(self, error: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the events of a failure; the error is told flat, as documented, and nested, as OpenAI's API does."""
        flat = {"code": error["code"], "message": error["message"], "param": None}
        yield {"type": "error", **flat, "error": {"type": error["type"], **flat}}
        if self.response:
            why = {"code": "server_error", "message": error["message"]}
            failed = {"status": "failed", "error": why, "output": self.items.done()}
            yield {"type": "response.failed", "response": self.response | failed}


def _ending(finish_reason: str | None) -> str:
    return "incomplete" if finish_reason in CUT else "completed"


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    details = usage.get("prompt_tokens_details") or {}
    cached, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": usage["total_tokens"],
    }
