"""A hosted tier inside a running graph: one model behind two deployments, each a server process of its own."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(1500), pytest.mark.in_turn("placement")]

Graph = Any
Api = Any
PRICE = {"input_usd_per_mtok": 2.5, "output_usd_per_mtok": 10.0}
LONG = "a long question " * 60  # the builtin version sends prompts over 800 characters to the last tier


@pytest.fixture(scope="module", params=["replicas", "ingress"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def east(apis: Callable[[str], Api], placement: str) -> Api:
    """One for each placement: the last test of each stops it."""
    return apis("graphs-east")


@pytest.fixture(scope="module")
def west(apis: Callable[[str], Api], placement: str) -> Api:
    return apis("graphs-west")


@pytest.fixture(scope="module")
def hosted(
    placement: str,
    new_graph: Callable[..., Graph],
    east: Api,
    west: Api,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Graph]:
    """`configs/hosted.yaml` in small: an echo cheap tier; west is east's spare, so that calls have an order."""
    key: Path = tmp_path_factory.mktemp("secret") / "key"
    key.write_text("sk-of-the-graph\n")
    common = {"model": "large", "api_key_file": str(key)}
    frontier = {
        "name": "frontier",
        "engine": "openai",
        "deployments": [
            {"name": "east", "base_url": east.url, "weight": 1, **common},
            {"name": "west", "base_url": west.url, "weight": 0, **common},
        ],
        "price": PRICE,
        "placement": placement,
        "failover": {"max_attempts": 3, "backoff_s": 0.05, "trip_after": 3, "cooldown_s": 0.3, "max_wait_s": 0.5},
    }
    cheap = {"name": "cheap", "engine": "echo", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.2}}
    graph = new_graph(tiers=[cheap, frontier], records={"retry_s": 0.3})
    yield graph
    graph.end()  # an idle graph is not free: nobody else's tests should wait for it


@pytest.fixture(autouse=True)
def _both_well(hosted: Graph, east: Api, west: Api, wait_until: Callable[..., float]) -> Iterator[None]:
    yield
    for api in (east, west):
        with suppress(OSError):
            api.plays()
    if east.process.poll() is None:
        wait_until(lambda: "graphs-east" in hosted.chat("well?", model="frontier").text, 60)


def said(response: Any, events: Callable[[Any], Any]) -> str:
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    assert response.text.count("data: [DONE]") == 1
    chunks = [event for event in events(response) if event["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "429": ({"fault": "status", "status": 429}, "429"),
    "503": ({"fault": "status", "status": 503}, "503"),
    "reset": ({"fault": "reset"}, "503"),
    "error in a 200": ({"fault": "error_body", "code": 500}, "500"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("routed", [False, True], ids=["forced", "routed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_deployment_failing_is_seen_by_nobody(
    hosted: Graph, east: Api, west: Api, events: Callable[[Any], Any], fault: str, routed: bool, stream: bool
) -> None:
    script, status = FAULTS[fault]
    east.plays(script)
    west.plays()
    prompt, model = (LONG, "auto") if routed else ("hello", "frontier")
    response = hosted.chat(prompt, model=model, stream=stream)
    assert response.status_code == 200
    assert said(response, events) == f"echo graphs-west: {prompt}"
    assert (east.state()["seen"], west.state()["seen"]) == (1, 1)
    assert west.state()["last"]["headers"]["authorization"] == "Bearer sk-of-the-graph"
    record = hosted.record_of(response)
    assert (record.status, record.tier, record.outcome) == (200, "frontier", "routed" if routed else "forced")
    assert f"frontier called east ({status} after" in record.route_reason
    assert "west (200 after" in record.route_reason
    assert record.cost_usd > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("status", "wanted"), [(429, 429), (503, 503)])
def test_both_failing_is_an_error_in_openais_shape_and_a_record(
    hosted: Graph, east: Api, west: Api, wait_until: Callable[..., float], status: int, wanted: int, stream: bool
) -> None:
    before = hosted.names_so_far()
    for api in (east, west):
        api.plays({"fault": "status", "status": status, "message": "secret of the provider", "times": 9})
    response = hosted.chat(LONG, stream=stream)
    assert response.status_code == wanted
    assert float(response.headers["retry-after"]) > 0
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert hosted.chat("hello").headers["x-serve-graph-outcome"] == "accepted"  # the cheap tier is well
    wait_until(lambda: len(set(hosted.records()) - before) == 2, 60)
    records = [hosted.records()[name][0] for name in set(hosted.records()) - before]
    [failed] = [record for record in records if record.status != 200]
    assert (failed.status, failed.tier, failed.stream) == (wanted, "frontier", stream)
    assert f"east ({status}" in failed.route_reason
    assert f"west ({status}" in failed.route_reason
    assert "secret" not in failed.route_reason


def test_a_stream_that_one_deployment_breaks_is_not_begun_anew_by_the_other(
    hosted: Graph, east: Api, west: Api, events: Callable[[Any], Any]
) -> None:
    east.plays({"fault": "reset", "after": 2})
    west.plays()
    response = hosted.chat("one two three four", model="frontier", stream=True)
    assert response.status_code == 200
    assert "error" in events(response)[-1]
    assert "[DONE]" not in response.text
    assert west.state()["seen"] == 0


def test_both_servers_gone_is_a_503_and_a_record(
    hosted: Graph, east: Api, west: Api, wait_until: Callable[..., float]
) -> None:
    """Last: they do not come back."""
    before = hosted.names_so_far()
    east.stop()
    west.stop()
    response = hosted.chat("hello", model="frontier")
    assert response.status_code == 503
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert hosted.chat("hello").headers["x-serve-graph-outcome"] == "accepted"
    wait_until(lambda: len(set(hosted.records()) - before) == 2, 60)
    assert {hosted.records()[name][0].status for name in set(hosted.records()) - before} == {200, 503}
