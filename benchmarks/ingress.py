"""The processor time that one ingress takes for a request, in this process and without Ray: routed beside forced.

    python -m benchmarks.ingress [--blocks 6] [--requests 400] [--callers 16] [--stream] [--words 50] [--folder DIR]

The ingress's own class with router and verifier in it (`policy.placement: ingress`), its HTTP application called as an
ASGI server calls it, and echo tiers that are called without a handle: what is measured is the ingress alone.
Time is the process's (`time.process_time`), which other work on the machine makes longer but not by its waiting; both
kinds go by turns. `--stream`: streams, a chunk for each word of an answer, which repeats its question; `--words` makes
the forced ones' questions so long, so that two runs say what a chunk takes.
The version is that of `benchmarks.overhead`; `--folder` keeps it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import itertools
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import median_and_range
from benchmarks.overhead import prepared, question
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_version

KINDS = {"routed": "auto", "forced": "cheap"}


class _Response:
    """What a deployment's method returned, as a handle's response."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def __await__(self) -> Any:
        return self.made.__await__()

    async def __anext__(self) -> Any:
        return await anext(self.made)

    def cancel(self) -> None:
        return None


class _Handle:
    """A Ray Serve handle that calls its deployment's object in this process."""

    def __init__(self, deployment: Any, method: str = "") -> None:
        self.deployment, self.method = deployment, method

    def options(self, **_: Any) -> _Handle:
        return self

    def __getattr__(self, name: str) -> _Handle:
        return _Handle(self.deployment, name)

    def remote(self, *args: Any, **carried: Any) -> _Response:
        return _Response(getattr(self.deployment, self.method)(*args, **carried))


@asynccontextmanager
async def application(config: GraphConfig) -> AsyncIterator[Any]:
    """The HTTP application of one ingress with its registry's version: echo tiers, and hosted ones that it calls."""
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    patient = config.policy.model_copy(update={"timeout_s": 80.0})  # a busy machine must not send requests elsewhere
    config = config.model_copy(update={"policy": patient})
    echoes = [tier for tier in config.tiers if isinstance(tier, EchoTierConfig)]
    tiers: Any = {tier.name: _Handle(EchoDeployment(tier)) for tier in echoes}
    made = IngressDeployment(
        config, ServedVersion.of(serving_version(config), config, 1), tiers, None, None, b"x" * 16
    )
    app = made.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def ingress(folder: Path) -> AsyncIterator[Any]:
    """The HTTP application of one ingress that serves the benchmark's version."""
    async with application(load_config(prepared(folder)["ingress"][0])) as app:
        yield app


async def call(
    app: Any, method: str, path: str, content: bytes = b"", key: str | None = None
) -> tuple[int, dict[str, str]]:
    """One request of this machine, a body in JSON; its status and headers."""
    sent, plain = list[Any](), path.partition("?")
    said: list[dict[str, Any]] = [{"type": "http.request", "body": content, "more_body": False}]
    headers = [(b"host", b"127.0.0.1"), (b"content-length", str(len(content)).encode())]
    headers += [(b"content-type", b"application/json")] if content else []
    headers += [(b"authorization", f"Bearer {key}".encode())] if key else []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": plain[0], "raw_path": plain[0].encode(), "query_string": plain[2].encode(), "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if said:
            return said.pop()
        await asyncio.Event().wait()
        raise AssertionError("nobody hangs up")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def post(app: Any, body: dict[str, Any], key: str | None = None) -> tuple[int, dict[str, str]]:
    """One chat request; its status and headers."""
    return await call(app, "POST", "/v1/chat/completions", json.dumps(body).encode(), key)


async def block(
    app: Any, model: str, numbers: Iterator[int], requests: int, callers: int, *, stream: bool = False, words: int = 0
) -> float:
    """Processor milliseconds a request of so many callers at once; `words`: of a forced question."""
    left, tiers = iter(range(requests)), list[str]()

    async def caller() -> None:
        for _ in left:
            asked = question(next(numbers))
            if model != "auto":
                asked += " again" * max(0, words - len(asked.split()))
            body = {"model": model, "messages": [{"role": "user", "content": asked}], "stream": stream}
            status, headers = await post(app, body)
            tiers.append(headers["x-serve-graph-tier"] if status == 200 else str(status))

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.process_time() - began
    if tiers.count("cheap") < 0.8 * requests:
        raise RuntimeError(f"too few questions were answered by the cheap tier: {sorted(set(tiers))}")
    return 1000 * took / requests


async def measured(chosen: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Processor milliseconds a request by kind, of every block."""
    how = {"stream": chosen.stream, "words": chosen.words}
    numbers, found = itertools.count(1_500), {kind: list[float]() for kind in KINDS}
    async with ingress(folder) as app:
        for model in KINDS.values():
            await block(app, model, numbers, 100, chosen.callers, **how)
        for i in range(chosen.blocks):
            for kind in list(KINDS)[:: 1 if i % 2 else -1]:
                one = await block(app, KINDS[kind], numbers, chosen.requests, chosen.callers, **how)
                found[kind].append(one)
        if chosen.profile is not None:
            profile = cProfile.Profile(time.thread_time)
            profile.enable()
            await block(app, "auto", numbers, chosen.requests, chosen.callers, **how)
            profile.disable()
            profile.dump_stats(chosen.profile)
    return found


def main() -> None:
    """Measure and print."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--blocks", type=int, default=6)
    reads.add_argument("--requests", type=int, default=400)
    reads.add_argument("--callers", type=int, default=16)
    reads.add_argument("--stream", action="store_true", help="streams instead of whole answers")
    reads.add_argument("--words", type=int, default=0, help="words of the forced questions, at least")
    reads.add_argument("--folder", type=Path, help="a folder that is kept, with its version")
    reads.add_argument("--profile", type=Path, help="profile a further routed block into this file")
    reads.add_argument("--json", action="store_true", help="print every block's figure as JSON")
    chosen = reads.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        folder = chosen.folder or Path(made)
        folder.mkdir(exist_ok=True)
        found = asyncio.run(measured(chosen, folder))
    if chosen.json:
        print(json.dumps(found))
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    for kind, figures in found.items():
        print(f"{kind}, {chosen.callers} callers: {median_and_range(figures, 2)} processor ms a request")


if __name__ == "__main__":
    main()
