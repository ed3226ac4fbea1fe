"""Anthropic's Message Batches over a real socket, in the shapes of its documentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CUSTOM_ID_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@dataclass
class AnthropicServer:
    """Batches end when they are looked at for the `looks`-th time. `kinds`: what becomes of requests, by their text.

    `on`: called once a batch is created, before the reply. `refuses`: statuses of the next replies to creations, after
    they are done. `statuses`: the same before anything is done. `foreign`: what `results_url` says instead. `loses`:
    whether batches are gone, the `batch` itself or `all` of it.
    """

    looks: int = 1
    kinds: dict[str, list[str]] = field(default_factory=dict)
    on: Callable[[str], None] = lambda what: None
    refuses: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    foreign: str | None = None
    loses: str = ""
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    @property
    def app(self) -> Starlette:
        root = "/v1/messages/batches"
        return Starlette(
            routes=[
                Route(root, self._create, methods=["POST"]),
                Route(root, self._list, methods=["GET"]),
                Route(f"{root}/{{id}}", self._look, methods=["GET"]),
                Route(f"{root}/{{id}}", self._delete, methods=["DELETE"]),
                Route(f"{root}/{{id}}/results", self._results, methods=["GET"]),
            ]
        )

    async def _create(self, request: Request) -> Response:
        self.keys.add(request.headers["x-api-key"])
        assert request.headers["anthropic-version"] == "2023-06-01"
        if self.statuses:
            return _error(self.statuses.pop(0))
        requests = (await request.json())["requests"]
        names = [one["custom_id"] for one in requests]
        assert all(0 < len(name) <= 64 and set(name) <= CUSTOM_ID_CHARS for name in names)
        assert len(set(names)) == len(names)
        assert all({"model", "max_tokens", "messages"} <= one["params"].keys() for one in requests)
        assert not any(one["params"].get("stream") for one in requests)
        self.sizes.append(len(requests))
        name = f"msgbatch_{len(self.batches) + 1}"
        self.batches[name] = {"requests": requests, "looked": 0, "created_at": datetime.now(UTC).isoformat()}
        self.on("batch")
        return _error(self.refuses.pop(0)) if self.refuses else JSONResponse(self._told(name, request))

    def _told(self, name: str, request: Request) -> dict[str, Any]:
        batch = self.batches[name]
        ended = batch["looked"] >= self.looks
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = len(batch["requests"])
        url = self.foreign or str(request.url_for("_results", id=name))
        return {
            "id": name, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "created_at": batch["created_at"], "expires_at": batch["created_at"],
            "ended_at": None, "archived_at": None, "cancel_initiated_at": None,
            "results_url": url if ended else None,
        }  # fmt: skip

    async def _list(self, request: Request) -> Response:
        for batch in self.batches.values():
            batch["looked"] += 1
        names = list(reversed(self.batches))
        after = request.query_params.get("after_id")
        start = names.index(after) + 1 if after else 0
        page = names[start : start + 1]  # one a page: whoever looks must turn them
        data = [self._told(name, request) for name in page]
        return JSONResponse({"data": data, "has_more": start + 1 < len(names), "first_id": None, "last_id": None})

    async def _look(self, request: Request) -> Response:
        name = request.path_params["id"]
        if self.loses:
            return _error(404)
        self.batches[name]["looked"] += 1
        return JSONResponse(self._told(name, request))

    async def _results(self, request: Request) -> Response:
        if self.loses == "all":
            return _error(404)
        lines = [self._result(one) for one in self.batches[request.path_params["id"]]["requests"]]
        return Response("".join(json.dumps(line) + "\n" for line in reversed(lines)))

    def _result(self, one: dict[str, Any]) -> dict[str, Any]:
        params = one["params"]
        said = "".join(block["text"] for block in params["messages"][-1]["content"])
        left = self.kinds.get(said) or ["succeeded"]
        kind = left.pop(0) if len(left) > 1 else left[0]
        told: dict[str, Any] = {"type": kind}
        if kind == "succeeded":
            told["message"] = {
                "id": "msg_1", "type": "message", "role": "assistant", "model": params["model"],
                "content": [{"type": "text", "text": f"{params['model']}: {said}"}],
                "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": 10, "output_tokens": 4, "service_tier": "batch"},
            }  # fmt: skip
        elif kind not in ("expired", "canceled"):
            told = {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": f"no: {kind}"}}}
        return {"custom_id": one["custom_id"], "result": told}

    async def _delete(self, request: Request) -> Response:
        self.deleted.append(request.path_params["id"])
        return JSONResponse({"id": request.path_params["id"], "type": "message_batch_deleted"})


def _error(status: int) -> Response:
    return JSONResponse({"type": "error", "error": {"type": "api_error", "message": "no"}}, status)
