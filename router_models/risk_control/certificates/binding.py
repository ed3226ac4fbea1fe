"""What a certificate depends on, by its hash: a promise is void once anything that it was measured on has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from router_models.errors import DataError


def binding_hashes(things: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of each named thing: of the bytes themselves, or of canonical JSON (sorted keys) for anything else.

    Raises DataError for what JSON cannot hold exactly (NaN, objects, Decimal: pass those as strings).
    """
    return {name: hashlib.sha256(_canonical(name, thing)).hexdigest() for name, thing in things.items()}


def _canonical(name: str, thing: Any) -> bytes:
    if isinstance(thing, bytes | bytearray | memoryview):
        return bytes(thing)
    try:
        return json.dumps(thing, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot bind {name!r} to a certificate: {error}; pass bytes or JSON-able data") from error
