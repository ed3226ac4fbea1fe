"""OpenAI's Files API: what is kept, listed, refused and deleted."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.serve_graph.cluster.batches.batch_graph import BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]


async def test_an_uploaded_file_is_read_back_as_it_was(graph: Graphs) -> None:
    at, content = graph(), jsonl(*(line(n) for n in range(3)))
    made = (await at.upload(content)).json()
    assert made["object"] == "file"
    assert (made["bytes"], made["purpose"], made["filename"]) == (len(content), "batch", "in.jsonl")
    assert made["expires_at"] - made["created_at"] == 30 * 86_400
    assert (await at.get(f"/v1/files/{made['id']}")).json() == made
    read = await at.get(f"/v1/files/{made['id']}/content")
    assert (read.content, read.headers["content-length"]) == (content, str(len(content)))


async def test_files_are_listed_in_pages_in_either_order(graph: Graphs) -> None:
    at = graph()
    made = [(await at.upload(jsonl(line(n)))).json()["id"] for n in range(5)]
    listed = (await at.get("/v1/files?order=asc&limit=2")).json()
    names = [file["id"] for file in listed["data"]]
    assert (listed["object"], listed["has_more"], listed["last_id"]) == ("list", True, names[-1])
    while listed["has_more"]:
        listed = (await at.get(f"/v1/files?order=asc&limit=2&after={names[-1]}")).json()
        names += [file["id"] for file in listed["data"]]
    assert sorted(names) == sorted(made)
    assert [f["id"] for f in (await at.get("/v1/files")).json()["data"]] == names[::-1]
    assert (await at.get("/v1/files?purpose=batch_output")).json()["data"] == []
    assert len((await at.get("/v1/files?purpose=batch")).json()["data"]) == 5


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=10001", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("limit=" + "9" * 400, 400, "limit"),
        ("order=up", 400, "order"),
        ("after=file-none", 404, "after"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(graph: Graphs, query: str, status: int, param: str) -> None:
    reply = await graph().get(f"/v1/files?{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


async def test_a_deleted_file_is_gone_and_no_batch_reads_it(graph: Graphs) -> None:
    at = graph()
    name = (await at.upload(jsonl(line(1)))).json()["id"]
    async with at.client() as client:
        assert (await client.delete(f"/v1/files/{name}")).json() == {"id": name, "object": "file", "deleted": True}
        assert (await client.delete(f"/v1/files/{name}")).status_code == 404
        body = {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        refused = await client.post("/v1/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "input_file_id")
    assert (await at.get(f"/v1/files/{name}/content")).status_code == 404
    assert list((at.folder / "files").iterdir()) == []


async def test_a_file_is_gone_when_its_time_is_over(graph: Graphs) -> None:
    at = graph()
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = (await at.upload(jsonl(line(1)), **fields)).json()
    assert made["expires_at"] - made["created_at"] == 3600
    at.offset_ms = 3_601_000
    assert (await at.get(f"/v1/files/{made['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("sent", "status", "param", "code"),
    [
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "vision"}}, 400, "purpose", "invalid_value"),
        ({"files": {"file": ("a", b"x")}}, 400, "purpose", "invalid_value"),
        ({"files": {"other": ("a", b"x")}, "data": {"purpose": "batch"}}, 400, "file", "missing_required_parameter"),
        ({"json": {"purpose": "batch"}}, 400, None, "invalid_content_type"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, None, "invalid_multipart"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
         400, None, "invalid_multipart"),
        ({"files": {"file": ("a", b"x" * 3000)}, "data": {"purpose": "batch"}}, 413, None, "payload_too_large"),
        ({"files": {"file": ("a", b"x" * 99_000)}, "data": {"purpose": "batch"}}, 413, None, "payload_too_large"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "batch", "expires_after[seconds]": "5"}},
         400, "expires_after", "invalid_value"),
    ],
)  # fmt: skip
async def test_an_upload_that_is_none_is_refused_and_nothing_is_kept(
    graph: Graphs, sent: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    at = graph(batches={"max_file_bytes": 2048})
    async with at.client() as client:
        reply = await client.post("/v1/files", **sent)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param), error
    assert error["code"] in (code, None if status == 413 else code)
    assert (await at.get("/v1/files")).json()["data"] == []
    assert not (at.folder / "files").exists()


async def test_a_key_has_so_many_files_and_so_many_bytes(graph: Graphs) -> None:
    at = graph(batches={"max_files": 2, "max_key_bytes": 1024})
    assert (await at.upload(b"x" * 500)).status_code == 200
    large = await at.upload(b"x" * 600)
    assert (large.status_code, large.json()["error"]["code"]) == (400, "file_storage_exceeded")
    assert (await at.upload(b"x")).status_code == 200
    third = await at.upload(b"x")
    assert (third.status_code, third.json()["error"]["code"]) == (400, "too_many_files")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "1h"}, "completion_window"),
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after"),
        ({"input_file_id": 7}, "input_file_id"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused(graph: Graphs, change: dict[str, Any], param: str) -> None:
    at = graph()
    name = (await at.upload(jsonl(line(1)))).json()["id"]
    body = {"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h", **change}
    async with at.client() as client:
        reply = await client.post("/v1/batches", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param
