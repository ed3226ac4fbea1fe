"""The webhook: one signed post an event, tried again, never redirected."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from serve_graph.learning.alarm_table import Alarm
from serve_graph.learning.webhook import Webhook

ALARM = Alarm("router/1", "revoked", "overall", "2026-03-01", "revoked by labels", True)


class Receiver:
    """An HTTP server that answers with statuses in turn, and keeps what it was sent."""

    def __init__(self) -> None:
        receiver = self
        self.statuses: list[int] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return None

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=t0p"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def test_an_event_is_posted_once_and_signed(receiver: Receiver) -> None:
    await Webhook(receiver.url, "s3cret", clock=lambda: 1_700_000_000.5)("alarm.raised", [ALARM])
    [(path, headers, body)] = receiver.seen
    assert path == "/hook?token=t0p"
    assert json.loads(body)["alarms"][0] | {"id": ""} == ALARM.shown() | {"id": ""}
    signed = hmac.new(b"s3cret", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert (headers["x-serve-graph-timestamp"], headers["x-serve-graph-signature"]) == (
        "1700000000",
        f"sha256={signed}",
    )


async def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    await Webhook(receiver.url)("alarm.raised", [ALARM])
    assert "x-serve-graph-signature" not in receiver.seen[0][1]


async def test_a_receiver_that_fails_is_tried_again_and_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [500, 302]
    await Webhook(receiver.url, pauses_s=(0, 0, 0, 0))("alarm.raised", [ALARM])
    assert [path for path, _, _ in receiver.seen] == ["/hook?token=t0p"] * 3


async def test_after_the_last_attempt_the_failure_is_logged_without_the_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [503, 307]
    await Webhook(receiver.url, pauses_s=(0, 0))("alarm.raised", [ALARM])
    assert "did not take alarm.raised: status 307" in caplog.text
    assert "t0p" not in caplog.text.replace("HTTP Request", "")
    await Webhook("http://127.0.0.1:9/x", pauses_s=(0,))("alarm.raised", [ALARM])
    assert "ConnectError" in caplog.text
