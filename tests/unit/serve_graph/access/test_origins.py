"""A public host name that leads to this machine is a web page's own: without keys it is refused."""

from collections.abc import Callable
from typing import Any

import pytest

Endpoints = Callable[..., Any]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("192.168.1.5", 200),
        ("my-laptop:8000", 200),
        ("my-laptop.local", 200),
        ("host.docker.internal:8000", 200),
        ("rebound.example.com", 403),
        ("rebound.example.com.:8000", 403),
        ("127.0.0.1.nip.io", 403),
        ("[::1", 403),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
async def test_without_keys_a_public_host_name_is_refused(
    endpoint: Endpoints, host: str, status: int, path: str
) -> None:
    async with endpoint().client() as client:
        assert (await client.get(path, headers={"host": host})).status_code == status
        assert (await client.get("/healthz", headers={"host": host})).status_code == 200
    async with endpoint(is_open=True).client() as client:
        assert (await client.get(path, headers={"host": host})).status_code == 200
