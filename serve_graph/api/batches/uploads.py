"""A file in a multipart body: received within a bound, without ever being in memory as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import IO

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve_graph.api.batches.shapes import ExpiresAfter
from serve_graph.api.transport.content_encoding import too_large
from serve_graph.errors import RequestError, SlowBodyError, StoreUnavailableError, UnsupportedEncodingError

BESIDE_BYTES = 64 * 1024
"""What a body may hold beside its file: names, boundaries and fields."""
MOST_NAME = 256
PURPOSES = ("batch",)


@dataclass(frozen=True, slots=True)
class Upload:
    """What was uploaded. `file` is at its beginning; `close` it. `keep_s`: how long it is kept, if that is said."""

    file: IO[bytes]
    filename: str
    bytes: int
    purpose: str
    keep_s: int | None = None

    def close(self) -> None:
        self.file.close()


async def read_upload(request: Request, most_bytes: int, timeout_s: float | None) -> Upload:
    """Receive OpenAI's `POST /v1/files`.

    Raises UnsupportedEncodingError where it is compressed; StoreUnavailableError where there is no room for it;
    RequestError, which names the field; PayloadTooLargeError as soon as more than `most_bytes` were sent;
    SlowBodyError where it has not arrived after `timeout_s`.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(
            "send the file as multipart/form-data, with `file` and `purpose`", code="invalid_content_type"
        )
    if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        message = f"files are sent without content-encoding, not {coding[:40]!r}"
        raise UnsupportedEncodingError(message, "content-encoding", "unsupported_content_encoding")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:40]) > most_bytes + BESIDE_BYTES:
        raise too_large(most_bytes)

    async def bounded() -> AsyncIterator[bytes]:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most_bytes + BESIDE_BYTES:
                raise too_large(most_bytes)
            yield part

    try:
        async with asyncio.timeout(timeout_s):
            form = await MultiPartParser(request.headers, bounded(), max_files=1, max_fields=8).parse()  # type: ignore[arg-type]
    except TimeoutError:
        message = f"the file did not arrive within {timeout_s:g} s"
        raise SlowBodyError(message, code="request_timeout") from None
    except OSError as error:  # it is spooled to a temporary file without a name
        raise StoreUnavailableError(f"there is no room to receive the file ({type(error).__name__})") from error
    except (MultiPartException, KeyError, UnicodeDecodeError, LookupError) as error:
        said = getattr(error, "message", None) or "it cannot be parsed"
        raise RequestError(f"the multipart body is malformed: {said}", code="invalid_multipart") from None
    try:
        return _upload(dict(form.multi_items()), most_bytes)
    except BaseException:
        await form.close()
        raise


def _upload(form: Mapping[str, UploadFile | str], most_bytes: int) -> Upload:
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise RequestError("`file` is required, as a file", "file", "missing_required_parameter")
    if purpose not in PURPOSES:
        raise RequestError(
            "`purpose` must be 'batch': files of other purposes are not used here", "purpose", "invalid_value"
        )
    size = file.size or 0
    if size > most_bytes:
        raise too_large(most_bytes)
    name = "".join(c for c in file.filename or "" if c.isprintable())[-MOST_NAME:] or "upload.jsonl"
    return Upload(file.file, name, size, str(purpose), _keep_s(form))


def _keep_s(form: Mapping[str, UploadFile | str]) -> int | None:
    given = {
        name[len("expires_after[") : -1]: value for name, value in form.items() if name.startswith("expires_after[")
    }
    if not given:
        return None
    try:
        seconds = int(str(given.get("seconds", "")))
        return ExpiresAfter.model_validate({**given, "seconds": seconds}).seconds
    except (ValueError, ValidationError):
        message = "`expires_after` is {anchor: 'created_at', seconds: 3600 to 2592000}"
        raise RequestError(message, "expires_after", "invalid_value") from None
