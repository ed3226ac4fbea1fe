"""What a caller sees of a healthy graph: a real Ray cluster, HAProxy in front, echo engines behind."""

import base64
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from openai import BadRequestError, NotFoundError
from prometheus_client.parser import text_string_to_metric_families

from tests.attack.attack import Attack, carried_out
from tests.attack.table import WITHOUT_KEYS
from tests.attack.target import Target

pytestmark = pytest.mark.timeout(1500)

LONG = "a long question " * 60  # the builtin version sends prompts over 800 characters to the last tier
BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
Graph = Any


def requests_counted(graph: Graph) -> float:
    text = graph.client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return sum(sample.value for sample in families["serve_graph_requests"].samples)


@pytest.mark.parametrize(
    ("model", "prompt", "tier", "outcome"),
    [
        ("auto", "hello", "cheap", "accepted"),
        ("auto", LONG, "frontier", "routed"),
        ("cheap", "hello", "cheap", "forced"),
        ("frontier", "hello", "frontier", "forced"),
    ],
    ids=["auto-short", "auto-long", "cheap", "frontier"],
)
def test_the_openai_client_gets_its_answer(graph: Graph, model: str, prompt: str, tier: str, outcome: str) -> None:
    messages = [{"role": "user", "content": prompt}]
    raw = graph.openai.chat.completions.with_raw_response.create(model=model, messages=messages)
    reply = raw.parse()
    assert reply.choices[0].message.content == f"echo {tier}: {prompt}"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens > 0
    assert reply.model == tier
    assert reply.serve_graph["outcome"] == outcome == raw.headers["x-serve-graph-outcome"]
    assert raw.headers["x-serve-graph-tier"] == tier
    assert float(raw.headers["x-serve-graph-cost-usd"]) > 0


@pytest.mark.parametrize("model", ["auto", "cheap", "frontier"])
@pytest.mark.parametrize("prompt", ["hello there, how are you?", LONG], ids=["short", "long"])
def test_the_openai_client_streams(graph: Graph, model: str, prompt: str) -> None:
    pieces = list(
        graph.openai.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    tier = model if model != "auto" else "frontier" if prompt == LONG else "cheap"
    assert text == f"echo {tier}: {prompt}"
    assert [piece.usage for piece in pieces if piece.usage] == [pieces[-1].usage]
    assert pieces[-1].serve_graph["tier"] == tier


def test_the_openai_client_completes_text(graph: Graph) -> None:
    reply = graph.openai.completions.create(model="cheap", prompt="one two three", max_tokens=3)
    assert reply.choices[0].text == "echo cheap: one"


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages"])
def test_anthropics_clients_are_answered_too(graph: Graph, path: str) -> None:
    body = BODY | {"max_tokens": 64}
    whole = graph.client.post(path, json=body)
    assert whole.json()["content"] == [{"type": "text", "text": "echo cheap: hello"}]
    assert whole.headers["request-id"] == whole.headers["x-request-id"]
    lines = graph.client.post(path, json=body | {"stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    said = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(said) == "echo cheap: hello"
    refused = graph.client.post(path, json=body | {"model": "claude-17"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    counted = graph.client.post(f"{path}/count_tokens", json=BODY)
    assert counted.json()["input_tokens"] > 0


def test_the_openai_client_is_told_what_is_wrong(graph: Graph) -> None:
    with pytest.raises(NotFoundError, match="known: auto, cheap, frontier"):
        graph.openai.chat.completions.create(model="gpt-17", messages=BODY["messages"])
    with pytest.raises(BadRequestError, match="temperature"):
        graph.openai.chat.completions.create(model="auto", messages=BODY["messages"], temperature=9)


BAD = {
    "empty": (b"", 400),
    "malformed": (b'{"model": "auto", "messages": [', 400),
    "no object": (b"[1, 2]", 400),
    "invalid UTF-8": (b'{"model": "auto", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400),
    "lone surrogate": (json.dumps(BODY).replace("hello", r"\ud800").encode(), 400),
    "NaN": (json.dumps(BODY | {"temperature": float("nan")}).encode(), 400),
    "endless integer": (b'{"model": "auto", "seed": ' + b"9" * 10_000 + b"}", 400),
    "deep": (b'{"model": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "unknown model": (json.dumps(BODY | {"model": "nothing"}).encode(), 404),
    "unknown field": (json.dumps(BODY | {"colour": "blue"}).encode(), 400),
    "wrong type": (json.dumps(BODY | {"messages": "hello"}).encode(), 400),
    "n over 8": (json.dumps(BODY | {"n": 9}).encode(), 400),
    "negative max_tokens": (json.dumps(BODY | {"max_tokens": -1}).encode(), 400),
    "too long a prompt": (json.dumps(BODY | {"messages": [{"role": "user", "content": "x" * 50_000}]}).encode(), 400),
    "too large a body": (b'{"model": "' + b"x" * 34_000_000 + b'"}', 413),
    "too much text": (b'{"model": "' + b"x" * 5_000_000 + b'"}', 413),
    "a bomb": (gzip.compress(b"0" * 50_000_000), 413),
}


@pytest.mark.parametrize(("raw", "status"), BAD.values(), ids=BAD.keys())
def test_bad_request_is_refused_and_kills_nothing(graph: Graph, raw: bytes, status: int) -> None:
    before = {name: graph.replicas(name)[0].pid for name in ("ingress", "router", "verifier", "cheap", "frontier")}
    headers = {"content-encoding": "gzip"} if raw[:2] == b"\x1f\x8b" else {}
    response = graph.client.post("/v1/chat/completions", content=raw, headers=headers)
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    assert graph.chat().status_code == 200
    assert {name: graph.replicas(name)[0].pid for name in before} == before


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("model", ["auto", "frontier"])
def test_a_photo_passes_on_every_leg(graph: Graph, model: str, encoding: str) -> None:
    photo = base64.b64encode(random.Random(7).randbytes(15_000_000)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{photo}"}}
    content = [{"type": "text", "text": "what is this?"}, image]
    raw = json.dumps({"model": model, "messages": [{"role": "user", "content": content}]}).encode()
    body = gzip.compress(raw, 1) if encoding == "gzip" else raw
    response = graph.client.post("/v1/chat/completions", content=body, headers={"content-encoding": encoding})
    assert response.status_code == 200, response.text[:500]
    assert "what is this?" in response.json()["choices"][0]["message"]["content"]
    assert graph.record_of(response).outcome in ("accepted", "escalated", "routed", "forced")


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/v1/chat/completions/", "/openai/deployments/auto/chat/completions"]
)
def test_paths_and_ids_of_clients_pass_the_proxies(graph: Graph, path: str) -> None:
    response = graph.client.post(path, json=BODY, headers={"x-request-id": "req-7"})
    unnamed = graph.client.post(path, json=BODY)
    assert (response.status_code, unnamed.status_code) == (200, 200)
    assert response.headers.get_list("x-request-id") == ["req-7"]
    assert len(unnamed.headers.get_list("x-request-id")) == 1
    assert graph.record_of(unnamed).evidence["request_id"] == unnamed.headers["x-request-id"]
    assert int(response.headers["openai-processing-ms"]) >= 0


def test_a_listed_page_passes_the_proxies(graph: Graph) -> None:
    origin = {"origin": "http://localhost:3000"}
    asked = origin | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = graph.client.options("/v1/chat/completions", headers=asked)
    for reply in (preflight, graph.client.post("/v1/chat/completions", json=BODY, headers=origin)):
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
    foreign = graph.client.post("/v1/chat/completions", json=BODY, headers={"origin": "app://obsidian.md"})
    assert foreign.status_code == 403


def test_too_long_a_prompt_is_named_as_openai_does(graph: Graph) -> None:
    error = graph.chat("x" * 50_000).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length" in error["message"]


def test_every_route_answers(graph: Graph) -> None:
    get = graph.client.get
    assert get("/healthz").json() == {"status": "ok"}
    ready = get("/readyz").json()
    assert ready["ready"] is True
    assert ready["tiers"] == ["cheap", "frontier"]
    assert ready["certified"] is False
    assert "uncertified" in ready["version"]
    assert [model["id"] for model in get("/v1/models").json()["data"]] == ["auto", "cheap", "frontier"]
    assert get("/v1/decisions/dec-none").status_code == 404
    assert get("/nowhere").status_code == 404
    assert get("/v1/chat/completions").status_code == 405


def test_decision_can_be_looked_up(graph: Graph) -> None:
    response = graph.chat("remember this", metadata={"task": "memory"})
    record = graph.record_of(response)
    assert (record.tier, record.outcome, record.status, record.prompt_chars) == ("cheap", "accepted", 200, 13)
    assert record.metadata == {"task": "memory"}
    assert record.cost_usd == sum(call.cost_usd for call in record.calls) > 0
    assert record.p_cheap_ok is not None
    assert record.p_cheap_ok > 0.5


def test_metrics_count_requests(graph: Graph) -> None:
    before = requests_counted(graph)
    for _ in range(3):
        graph.chat()
    assert requests_counted(graph) == before + 3


def test_nobody_else_on_the_network_can_reach_it(graph: Graph) -> None:
    addresses = [a.address for found in psutil.net_if_addrs().values() for a in found if a.family.name == "AF_INET"]
    for address in (a for a in addresses if not a.startswith("127.")):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{address}:{graph.port}/healthz", timeout=5)


@pytest.mark.parametrize("each", WITHOUT_KEYS, ids=lambda each: each.name)
def test_an_attack_on_a_graph_without_keys_is_refused_as_wanted(graph: Graph, each: Attack) -> None:
    nobody: Any = None  # no API behind it is asked
    result = carried_out(each, Target(graph, {}, nobody, nobody))
    assert result.ok, f"{each.sent}: wanted {each.wanted}; {result.got}"


def test_two_hundred_mixed_requests_leave_two_hundred_records(graph: Graph, wait_until: Callable[..., float]) -> None:
    kinds: list[tuple[dict[str, Any], str]] = [
        ({"content": "hello"}, "accepted"),
        ({"content": LONG}, "routed"),
        ({"content": "hello", "model": "frontier"}, "forced"),
        ({"content": "[cheap:fail] hello"}, "fallback"),
        ({"content": "hello", "stream": True}, "accepted"),
        ({"content": LONG, "stream": True}, "routed"),
        ({"content": "[echo:fail] hello"}, "fallback"),
        ({"content": "[echo:refuse] hello", "model": "cheap", "stream": True}, "forced"),
    ]
    before = graph.names_so_far()
    wanted = Counter(kinds[i % len(kinds)][1] for i in range(200))
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda i: graph.chat(**kinds[i % len(kinds)][0]), range(200)))
    assert Counter(reply.status_code for reply in replies) == {200: 150, 503: 25, 400: 25}
    wait_until(lambda: len(set(graph.records()) - before) >= 200, 60)
    found = {name: records for name, records in graph.records().items() if name not in before}
    assert len(found) == 200
    assert {len(records) for records in found.values()} == {1}
    assert Counter(records[0].outcome for records in found.values()) == wanted
    ids = {reply.headers["x-serve-graph-decision"] for reply in replies if reply.status_code == 200}
    assert len(ids) == 150
    assert ids <= found.keys()
    assert Counter(records[0].status for records in found.values()) == {200: 150, 503: 25, 400: 25}
