import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serve_graph.cli.local.launch import await_ready, check_port, free_port, free_ports, free_range, on_a_busy_machine
from serve_graph.errors import ConfigError, ServeGraphError


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    for port in [*ports, free_port()]:
        check_port("127.0.0.1", port)


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} is taken.*--port"):
            check_port("127.0.0.1", port)


def test_ranges_of_ports_avoid_every_port_that_is_taken() -> None:
    low, _ = free_range(100)
    within = low, low + 100
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", low + 49))
        assert {free_range(50, within) for _ in range(5)} == {(low + 50, low + 99)}
        other.bind(("127.0.0.1", low + 50))
        with pytest.raises(ServeGraphError, match="no 50 adjacent ports"):
            free_range(50, within)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("The actor died.\n\tclass_name: HAProxyManager\n\tpid: 7"), "The actor died. Try again"),
        (TimeoutError(), "TimeoutError Try again"),
    ],
)
def test_ray_giving_up_is_one_sentence_with_the_way_out(error: Exception, said: str) -> None:
    with pytest.raises(ServeGraphError) as caught, on_a_busy_machine():
        raise error
    assert str(caught.value).startswith(f"Ray did not start: {said}")


@pytest.mark.parametrize(("codes", "ready"), [([503, 503, 200], True), ([403], True), ([503] * 9, False)])
def test_a_graph_is_handed_out_once_it_is_ready_or_has_had_its_time(codes: list[int], ready: bool) -> None:
    said = iter(codes)

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(next(said, codes[-1]))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert await_ready(url, seconds=30.0 if ready else 0.5) is ready
        server.shutdown()
    assert await_ready(url, seconds=0.3) is False, "nobody listens any more"
