"""A provider's Files and Batch API over a real socket: what it was sent, what it does about it, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Answer = Callable[[dict[str, Any]], dict[str, Any]]
NOT_FOUND = JSONResponse({"error": {"message": "no such thing"}}, 404)


@dataclass
class ProviderServer:
    """Batches end when they are looked at for the `looks`-th time, as `ends` says (`completed`, `expired`,
    `cancelled`, `failed`).

    `answered`: how many lines of a batch that expires, or is cancelled, have an answer. `on`: called with what was
    just done ("file", "batch") or is read ("content"), before the reply. `refuses`: statuses of the next replies to
    what creates something, after it is done. `statuses`: of single lines, by what their last message says. `paid`: how
    often each custom id was answered. `chats`: calls that were made one by one. `loses`: how the next batches end, ""
    for not at all, before they are gone when they are looked at. `lists`: whether there are lists of files.
    """

    answer: Answer
    looks: int = 1
    ends: list[str] = field(default_factory=list)
    answered: int = 0
    on: Callable[[str], None] = lambda what: None
    refuses: list[int] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    chats: int = 0
    loses: list[str] = field(default_factory=list)
    lists: bool = True
    url: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files", self._list_files, methods=["GET"]),
                Route("/v1/files/{id}", self._delete, methods=["DELETE"]),
                Route("/v1/files/{id}/content", self._content, methods=["GET"]),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._list_batches, methods=["GET"]),
                Route("/v1/batches/{id}", self._look, methods=["GET"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    def _keep(self, content: bytes, name: str) -> dict[str, Any]:
        made = {
            "id": f"file-{next(self.numbers)}", "object": "file", "bytes": len(content), "created_at": 0,
            "filename": name, "purpose": "batch", "status": "processed",
        }  # fmt: skip
        self.files[made["id"]] = {"told": made, "content": content}
        return made

    def _refusal(self) -> Response | None:
        return JSONResponse({"error": {"message": "busy"}}, self.refuses.pop(0)) if self.refuses else None

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            given: Any = form["file"]
            made = self._keep(await given.read(), given.filename)
        self.on("file")
        return self._refusal() or JSONResponse(made)

    async def _create(self, request: Request) -> Response:
        given = await request.json()
        if given["input_file_id"] not in self.files:
            return NOT_FOUND
        lines = self.files[given["input_file_id"]]["content"].splitlines()
        self.sizes.append(len(lines))
        made = {
            "id": f"batch_{len(self.batches) + 1}", "object": "batch", "endpoint": given["endpoint"],
            "completion_window": "24h", "created_at": 0, "status": "validating", "looked": 0,
            "input_file_id": given["input_file_id"], "metadata": given["metadata"],
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
        }  # fmt: skip
        self.batches[made["id"]] = made
        self.on("batch")
        return self._refusal() or JSONResponse(made)

    async def _look(self, request: Request) -> Response:
        batch = self.batches.get(request.path_params["id"])
        if batch is not None and self.loses:
            if how := self.loses.pop(0):
                self._end(batch, how)
            batch = self.batches.pop(batch["id"]) and None
        if batch is None:
            return NOT_FOUND
        batch["looked"] += 1
        if batch["looked"] == self.looks:
            self._end(batch, self.ends.pop(0) if self.ends else "completed")
        return JSONResponse(batch)

    def _end(self, batch: dict[str, Any], how: str) -> None:
        batch["status"] = how
        if how == "failed":
            data = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
            batch["errors"] = {"object": "list", "data": data}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]]["content"].splitlines()]
        out, errors = [], []
        for number, line in enumerate(lines):
            told = {"id": f"req-{number}", "custom_id": line["custom_id"]}
            status = self.statuses.get(line["body"]["messages"][-1]["content"], 200)
            if how in ("expired", "cancelled") and number >= self.answered:
                errors.append({**told, "response": None, "error": {"code": f"batch_{how}", "message": "too late"}})
            elif status != 200:
                body = {"error": {"message": "refused", "type": "invalid_request_error"}}
                errors.append({**told, "response": {"status_code": status, "body": body}, "error": None})
            else:
                self.paid[line["custom_id"]] = self.paid.get(line["custom_id"], 0) + 1
                out.append(
                    {**told, "response": {"status_code": 200, "body": self.answer(line["body"])}, "error": None}
                )
        for name, rows in (("output_file_id", out), ("error_file_id", errors)):
            if rows:
                content = "".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()
                batch[name] = self._keep(content, f"{batch['id']}_{name.removesuffix('_file_id')}.jsonl")["id"]

    async def _chat(self, request: Request) -> Response:
        self.chats += 1
        return JSONResponse(self.answer(await request.json()))

    async def _list_files(self, _: Request) -> Response:
        if not self.lists:
            return NOT_FOUND
        data = [file["told"] for file in self.files.values()]
        return JSONResponse({"object": "list", "data": data, "has_more": False})

    async def _list_batches(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": list(self.batches.values()), "has_more": False})

    async def _content(self, request: Request) -> Response:
        self.on("content")
        found = self.files.get(request.path_params["id"])
        return NOT_FOUND if found is None else Response(found["content"])

    async def _delete(self, request: Request) -> Response:
        self.deleted.append(request.path_params["id"])
        self.files.pop(request.path_params["id"], None)
        return JSONResponse({"id": request.path_params["id"], "object": "file", "deleted": True})


def echo_reply(body: dict[str, Any]) -> dict[str, Any]:
    """A chat.completion that repeats the last message: 10 prompt tokens, 4 of the answer."""
    said = f"{body['model']}: {body['messages'][-1]['content']}"
    message = {"role": "assistant", "content": said}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }  # fmt: skip
