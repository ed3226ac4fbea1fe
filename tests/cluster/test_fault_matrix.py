"""The fault matrix: every fault × {streamed, before the commit; streamed, after it; not streamed}, on a real cluster.

`make faults` runs it and prints what the caller got as a table; `make test` runs a share of its cells, with every row
and every column, another at each commit. Every cell checks that there was a reply, that its
record is in the store exactly once, and that no engine goes on generating for nobody.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.timeout(1500)

Graph = Any
PHASES = ("stream, before commit", "stream, after commit", "no stream")


@dataclass(frozen=True)
class Fault:
    """One row. `cheap`/`live`: what the prompt asks of the cheap tier, or of the frontier tier while it streams.

    `kill`: a deployment to SIGKILL (in the middle of the answer where the prompt makes it slow). `lock`: the store.
    `leave`: the caller goes away. `on`: the graph it happens to. `wanted`: per phase, what is allowed.
    """

    name: str
    wanted: tuple[set[str], set[str], set[str]]
    cheap: str = ""
    live: str = ""
    kill: str = ""
    lock: bool = False
    leave: bool = False
    on: str = "graph"


ANSWERED = {"fallback by frontier"}
UNHURT = {"accepted by cheap"}
BROKEN = {"error event"}
WHOLE = {"forced by frontier"}
FAULTS = (
    Fault("engine fails (5xx)", (ANSWERED, BROKEN, ANSWERED), "[cheap:fail]", "[frontier:break]"),
    Fault("engine refuses for now (429)", (ANSWERED, BROKEN, ANSWERED), "[cheap:fail=429]", "[frontier:break=429]"),
    Fault("engine too slow", (ANSWERED, BROKEN, ANSWERED), "[cheap:slow=60]", "[frontier:hang=60]"),
    Fault(
        "connection reset mid-stream", (ANSWERED, BROKEN, ANSWERED), "[cheap:break] [cheap:fail]", "[frontier:break]"
    ),
    Fault(
        "tier's replica SIGKILLed",
        (ANSWERED, BROKEN, ANSWERED),
        "[cheap:slow=60]",
        "[frontier:hang=60]",
        kill="cheap|frontier",
    ),
    # Unhurt where the successor stands before it is given up, or is asked, which a quick machine does in two seconds.
    Fault("router SIGKILLed", (ANSWERED | UNHURT, WHOLE, ANSWERED | UNHURT), "", "[frontier:hang=2]", kill="router"),
    Fault(
        "verifier SIGKILLed",
        (ANSWERED | UNHURT, WHOLE, ANSWERED | UNHURT),
        "[cheap:slow=2]",
        "[frontier:hang=2]",
        kill="verifier",
    ),
    Fault("decision store down", (UNHURT, WHOLE, UNHURT), "", "[frontier:hang=1]", lock=True),
    Fault("MLflow down", ({"routed by frontier"}, WHOLE, {"routed by frontier"}), on="without_mlflow"),
    Fault("caller goes away", ({"gone"}, {"gone"}, {"gone"}), "[cheap:slow=60]", "[frontier:hang=60]", leave=True),
)


@dataclass
class Table:
    """What each cell's caller got."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)

    def render(self) -> str:
        lines = [f"| fault | {' | '.join(PHASES)} |", "|---|---|---|---|"]
        rows = dict.fromkeys(name for name, _ in self.cells)
        lines += [f"| {row} | {' | '.join(self.cells.get((row, phase), '-') for phase in PHASES)} |" for row in rows]
        return "\n".join(lines)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    found = Table()
    yield found
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None and capture is not None and found.cells:
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\n\n{found.render()}\n")


@pytest.fixture(scope="module")
def without_mlflow(new_graph: Callable[..., Graph]) -> Iterator[Graph]:
    """A graph whose registry does not answer: it starts all the same, and answers from the last tier."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # by default each question takes six seconds
        graph = new_graph(tracking_uri="http://127.0.0.1:9", policy={"version": "stable"}, records={"retry_s": 0.3})
    assert "the registry cannot be reached" in graph.client.get("/readyz").json()["promise"]
    yield graph
    graph.end()


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_its_reply_its_record_and_no_orphan(
    request: pytest.FixtureRequest,
    graph: Graph,
    fault: Fault,
    phase: str,
    table: Table,
    wait_until: Callable[..., float],
) -> None:
    if fault.on != "graph":
        graph = request.getfixturevalue(fault.on)
    before = graph.names_so_far()
    live = phase == PHASES[1]
    prompt, model = (fault.live, "frontier") if live else (fault.cheap, "auto")
    body = {
        "model": model,
        "stream": phase != PHASES[2],
        "messages": [{"role": "user", "content": f"{prompt} hello there"}],
    }
    held: AbstractContextManager[Any] = closing(graph.locked_store()) if fault.lock else nullcontext()
    with held:
        got = _ask(graph, body, fault, live)
    assert got in fault.wanted[PHASES.index(phase)], got
    wait_until(lambda: set(graph.records()) - before, 30)
    [name] = set(graph.records()) - before
    [record] = graph.records()[name]
    assert record.status in {"gone": (499,), "error event": (429, 503, 504)}.get(got, (200,))
    wait_until(lambda: graph.busy() == 0, 120)  # a killed engine says so only once it has been replaced
    table.cells[fault.name, phase] = f"{got} ({record.status})"
    if fault.kill:
        wait_until(lambda: _well(graph), 120)


def _ask(graph: Graph, body: dict[str, Any], fault: Fault, live: bool) -> str:
    """Make the request, cause what the prompt cannot, and say in words what the caller got."""
    deployment = fault.kill if "|" not in fault.kill else fault.kill.split("|")[live]
    victims = graph.replicas(deployment) if deployment else []
    assert bool(victims) == bool(deployment), f"no replica of {deployment} found"
    slow = any(word in body["messages"][0]["content"] for word in ("slow", "hang"))
    for victim in victims:
        if not slow:
            victim.kill()
        elif deployment == "verifier":  # it dies while it should judge, however busy or quick the machine is
            victim.suspend()
    done = Event()
    later = Thread(target=_kill_while_busy, args=(graph, victims, done, deployment == "verifier"))
    if victims and slow:
        later.start()
    patience = httpx.Timeout(60, read=1.0 if fault.leave and not body["stream"] else 60)
    try:
        with graph.client.stream("POST", "/v1/chat/completions", json=body, timeout=patience) as response:
            lines = []
            for line in response.iter_lines():
                lines.append(line)
                if fault.leave and line.startswith("data:" if live else ":"):
                    return "gone"
            return _words(response, lines)
    except httpx.ReadTimeout:
        return "gone"
    finally:
        done.set()
        if later.ident is not None:
            later.join()


def _kill_while_busy(graph: Graph, victims: list[psutil.Process], done: Event, once_answered: bool) -> None:
    """Kill the replicas as soon as an engine is in the middle of the answer, or (`once_answered`) at its end.

    A verifier that is killed earlier may be back in time to judge.
    """
    while not graph.busy() > 0 and not done.wait(0.02):
        pass
    while once_answered and graph.busy() > 0 and not done.wait(0.02):
        pass
    for victim in victims:
        victim.kill()


def _words(response: httpx.Response, lines: list[str]) -> str:
    """Outcome and tier of a whole answer, "error event" of a broken stream, else the status."""
    if response.status_code != 200:
        return f"status {response.status_code}"
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    if not events:
        [whole] = [json.loads(line) for line in lines if line]
        facts, text = whole["serve_graph"], whole["choices"][0]["message"]["content"]
    elif "error" in events[-1]:
        return "error event"
    else:
        assert lines.count("data: [DONE]") == 1
        facts = events[-1]["serve_graph"]
        text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
    assert text.startswith(f"echo {facts['tier']}: ")
    assert text.endswith("hello there")
    return f"{facts['outcome']} by {facts['tier']}"


def _well(graph: Graph) -> bool:
    return all(
        graph.chat("hello", model=model).headers.get("x-serve-graph-outcome") == wanted
        for model, wanted in (("auto", "accepted"), ("frontier", "forced"))
    )
