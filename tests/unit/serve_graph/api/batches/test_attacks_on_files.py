"""Uploads at the same time, cut short or too many; what is left of them; and who reads whose files."""

import asyncio
import errno
import gzip
import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from starlette.formparsers import MultiPartParser

from serve_graph.records.audit_log import AuditLog
from serve_graph.records.batches.files_table import FilesTable
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]
ANN, BOB, ADMIN = {"name": "ann"}, {"name": "bob"}, {"name": "root", "scopes": ("use", "admin")}


@pytest.mark.parametrize(
    ("bounds", "code"), [({"max_files": 3}, "too_many_files"), ({"max_key_bytes": 1024}, "file_storage_exceeded")]
)
async def test_uploads_at_the_same_time_have_no_more_room_than_one_after_another(
    graph: Graphs, bounds: dict[str, int], code: str
) -> None:
    at = graph(batches=bounds)
    replies = await asyncio.gather(*(at.upload(b"x" * 300) for _ in range(6)))
    assert sorted(reply.status_code for reply in replies) == [200] * 3 + [400] * 3
    assert {reply.json()["error"]["code"] for reply in replies if reply.status_code == 400} == {code}
    assert len(list((at.folder / "files").iterdir())) == 3


async def test_a_key_uploads_so_many_files_at_a_time_and_others_are_not_kept_waiting(graph: Graphs) -> None:
    at = graph(keys=(ANN, BOB))
    go_on = asyncio.Event()

    async def slow() -> Any:
        yield b"--b\r\n"
        await go_on.wait()

    async def begin() -> int:
        async with at.client("ann") as ann:
            kind = {"content-type": "multipart/form-data; boundary=b"}
            return (await ann.post("/v1/files", content=slow(), headers=kind)).status_code

    begun = [asyncio.create_task(begin()) for _ in range(8)]
    await asyncio.sleep(0.3)
    ninth = await at.upload(b"x", "ann")
    assert (ninth.status_code, "retry-after" in ninth.headers) == (429, True)
    assert (await at.upload(b"x", "bob")).status_code == 200
    go_on.set()
    assert await asyncio.gather(*begun) == [400] * 8
    assert (await at.upload(b"x", "ann")).status_code == 200


async def test_bytes_of_an_upload_that_died_are_not_kept(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica is killed when the bytes are written, and nothing of it is run after that."""
    at = graph()

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(FilesTable, "show", killed, raising=False)
        dying.setattr(FilesTable, "add", killed, raising=False)
        dying.setattr(FilesTable, "delete", killed)
        dying.setattr(type(at.storage), "delete", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            await at.upload(b"prompts")
    [left] = (at.folder / "files").iterdir()
    assert (await at.get("/v1/files")).json()["data"] == []
    assert (await at.get(f"/v1/files/{left.name}")).status_code == 404
    await at.worker().tidy()
    assert left.exists()  # it may be one that is being written
    at.offset_ms = 3_700_000
    await at.worker().tidy()
    assert list((at.folder / "files").iterdir()) == []


async def test_a_disk_that_is_full_is_said(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiPartParser, "spool_max_size", 100)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    reply = await graph().upload(b"x" * 5000)
    assert (reply.status_code, "no room" in reply.json()["error"]["message"]) == (503, True)
    assert "device" not in reply.text


async def test_what_is_received_has_no_name_that_others_could_open(
    graph: Graphs, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    os.mkdir(tmp_path / "temporary")
    monkeypatch.setattr(MultiPartParser, "spool_max_size", 100)
    seen: list[list[str]] = []
    reserve = FilesTable.reserve

    async def looking(self: FilesTable, *args: Any) -> Any:
        seen.append(os.listdir(tmp_path / "temporary"))
        return await reserve(self, *args)

    monkeypatch.setattr(FilesTable, "reserve", looking)
    assert (await graph().upload(b"x" * 5000)).status_code == 200
    assert seen == [[]]


async def test_a_compressed_upload_is_refused_by_name(graph: Graphs) -> None:
    async with graph().client() as client:
        kind = {"content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip"}
        reply = await client.post("/v1/files", content=gzip.compress(b"--b--"), headers=kind)
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_encoding")


async def test_what_an_administrator_does_with_others_files_is_in_the_audit_log(graph: Graphs) -> None:
    at = graph(keys=(ANN, ADMIN))
    batch = await at.create(jsonl(line(1)), "ann")
    name = batch["input_file_id"]
    assert (await at.get(f"/v1/files/{name}/content", "ann")).status_code == 200
    async with at.client("root") as root:
        assert (await root.get(f"/v1/files/{name}/content")).status_code == 200
        assert (await root.post(f"/v1/batches/{batch['id']}/cancel")).status_code == 200
        other = (await at.upload(jsonl(line(2)), "ann")).json()["id"]
        body = {"input_file_id": other, "endpoint": CHAT, "completion_window": "24h"}
        assert (await root.post("/v1/batches", json=body)).status_code == 200
        async with at.working():
            await at.ended(batch, "ann")
        assert (await root.delete(f"/v1/files/{name}")).status_code == 200
    entries = await AuditLog(at.store).entries()
    found = {(one.actor, one.action, one.target, one.detail["key"]) for one in entries}
    assert found == {
        ("key:root", "files.read", name, "ann"),
        ("key:root", "files.read", other, "ann"),
        ("key:root", "batches.cancel", batch["id"], "ann"),
        ("key:root", "files.delete", name, "ann"),
    }


async def test_a_purpose_that_none_has_is_refused(graph: Graphs) -> None:
    assert (await graph().get("/v1/files?purpose=%00")).status_code == 400
