"""Whole replies for the echo server's script: what a real API sent, byte for byte. For tests and benchmarks.

    {"json": BODY, "status": 200, "headers": {…}}       any JSON value
    {"raw": "text", "ct": "text/plain", "status": 502}  any text under any content type
    {"events": [CHUNK, "data: [DONE]\\n\\n", 0.5, …]}     a stream: objects become `data:` events, strings are sent as
                                                        they are, numbers are pauses in seconds

Each may have `times`, `pause_s` (before the reply and between its events) and `split` (bytes per network packet).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import Send

KINDS = ("json", "raw", "events")
_COMMON = {"status", "headers", "times", "pause_s", "split"}
_FIELDS = {"json": _COMMON | {"json", "ct"}, "raw": _COMMON | {"raw", "ct"}, "events": _COMMON | {"events", "ct"}}
_TYPES = {"json": "application/json", "raw": "text/plain", "events": "text/event-stream"}


def check_script(script: Any, faults: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of a script, each as often as it says; raises ValueError with what is wrong with it."""
    if not isinstance(script, list):
        raise ValueError("a script is a list of entries")
    for entry in script:
        kinds = [kind for kind in ("fault", *KINDS) if isinstance(entry, Mapping) and kind in entry]
        if len(kinds) != 1:
            raise ValueError(f"an entry has exactly one of fault, {', '.join(KINDS)}; found {json.dumps(entry)[:200]}")
        if kinds == ["fault"]:
            if entry["fault"] not in faults:
                raise ValueError(f"no fault {entry['fault']!r}: one of {', '.join(faults)}")
        elif unknown := set(entry) - _FIELDS[kinds[0]]:
            raise ValueError(f"unknown fields beside {kinds[0]}: {', '.join(sorted(unknown))}")
        if "events" in kinds and not isinstance(entry["events"], list):
            raise ValueError("events must be a list")
    return [entry for entry in script for _ in range(int(entry.get("times", 1)))]


async def send_scripted(entry: Mapping[str, Any], send: Send) -> None:
    """Send the reply of one entry, whatever was requested."""
    kind = next(kind for kind in KINDS if kind in entry)
    own = {name.lower(): str(value) for name, value in (entry.get("headers") or {}).items()}
    headers = {"content-type": str(entry.get("ct") or _TYPES[kind])} | own
    packed = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pause_s = float(entry.get("pause_s", 0.0))
    await asyncio.sleep(pause_s)
    await send({"type": "http.response.start", "status": int(entry.get("status", 200)), "headers": packed})
    async for part in _parts(entry, kind, pause_s):
        for packet in _packets(part, int(entry.get("split", 0))):
            await send({"type": "http.response.body", "body": packet, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _parts(entry: Mapping[str, Any], kind: str, pause_s: float) -> AsyncIterator[bytes]:
    if kind != "events":
        value = entry[kind]
        yield value.encode() if kind == "raw" and isinstance(value, str) else json.dumps(value).encode()
        return
    for position, item in enumerate(entry["events"]):
        if isinstance(item, int | float) and not isinstance(item, bool):
            await asyncio.sleep(item)
            continue
        if position:
            await asyncio.sleep(pause_s)
        yield item.encode() if isinstance(item, str) else f"data: {json.dumps(item)}\n\n".encode()


def _packets(part: bytes, size: int) -> list[bytes]:
    return [part] if size < 1 else [part[start : start + size] for start in range(0, len(part), size)]
