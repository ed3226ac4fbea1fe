"""The example of TLS in front of a graph: https answers, http is refused, and clients need its authority."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from serve_graph.access.keys import key_hash, new_key
from serve_graph.cli.local.haproxy import usable_haproxy
from serve_graph.config.access import KeyConfig
from tests.fixtures.local_graph import LocalGraph, listening

EXAMPLE = Path(__file__).parents[3] / "examples" / "tls"
HAPROXY = usable_haproxy()
pytestmark = [
    pytest.mark.skipif(HAPROXY is None, reason="the HAProxy binary does not run here"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl"),
]
KEY = new_key()


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """The example in front of a graph in this process: its https port, its http port, and its authority."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([EXAMPLE / "certificate.sh", folder, "localhost", "127.0.0.1"], check=True)
    with ExitStack() as running:
        fronts = [running.enter_context(socket.socket()) for _ in range(2)]  # bound here and handed down
        for front in fronts:
            front.bind(("127.0.0.1", 0))
        https, http = (front.getsockname()[1] for front in fronts)
        binds = [f"fd@{front.fileno()}" for front in fronts]
        running.enter_context(pytest.MonkeyPatch.context()).setenv("OPENAI_API_KEY", "none")
        graph = LocalGraph("http://127.0.0.1:9", keys=[KeyConfig(name="a", sha256=key_hash(KEY))])
        url = running.enter_context(listening(graph.app))
        where = {"GRAPH": url.removeprefix("http://"), "HTTPS": binds[0], "HTTP": binds[1]}
        command = [str(HAPROXY), "-db", "-f", str(EXAMPLE / "haproxy.cfg")]
        environment = os.environ | where | {"PEM": str(folder / "server.pem")}
        proxy = subprocess.Popen(command, env=environment, pass_fds=[front.fileno() for front in fronts])
        running.callback(proxy.wait, 10)
        running.callback(proxy.kill)
        for _ in range(3000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", https)):
                break
            assert proxy.poll() is None, "HAProxy does not take the example"
            time.sleep(0.02)
        yield https, http, folder / "ca.pem"


def trusting(authority: Path) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=str(authority)), timeout=60)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_client_that_knows_the_authority_is_answered(ports: tuple[int, int, Path], host: str) -> None:
    https, _, authority = ports
    with trusting(authority) as http_client:
        client = OpenAI(api_key=KEY, base_url=f"https://{host}:{https}/v1", http_client=http_client, max_retries=0)
        ask = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        assert client.chat.completions.create(**ask).choices[0].message.content == "echo echo: hello"  # type: ignore[call-overload]
        pieces = list(client.chat.completions.create(**ask, stream=True))  # type: ignore[call-overload]
        assert "hello" in "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def test_browsers_are_told_to_stay_with_https_and_a_key_is_wanted_there_too(ports: tuple[int, int, Path]) -> None:
    https, _, authority = ports
    with trusting(authority) as client:
        reply = client.get(f"https://localhost:{https}/v1/models")
    assert reply.status_code == 401
    assert reply.headers["strict-transport-security"] == "max-age=31536000"


def test_a_client_that_does_not_know_the_authority_sends_nothing(ports: tuple[int, int, Path]) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"), httpx.Client() as client:
        client.get(f"https://localhost:{ports[0]}/v1/models")


def test_unencrypted_requests_are_refused_not_redirected(ports: tuple[int, int, Path]) -> None:
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}) as client:
        reply = client.get(f"http://127.0.0.1:{ports[1]}/v1/models")
        assert (reply.status_code, reply.json()["error"]["code"]) == (426, "https_required")
        with pytest.raises(httpx.HTTPError):
            client.get(f"http://127.0.0.1:{ports[0]}/v1/models").raise_for_status()
