import socket

import pytest

from serve_graph.cli.local.launch import check_port, free_port, free_ports, free_range, on_a_busy_machine
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
