"""What the story runs: its processes, the graph's configuration, and its own clock."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

ROOT = Path(__file__).parents[2]
SERVE_GRAPH = str(Path(sys.executable).parent / "serve-graph")
BEGAN = time.monotonic()


class StoryError(Exception):
    """Something else happened than what had to."""


def say(what: str) -> None:
    print(f"{time.monotonic() - BEGAN:7.1f} s  {what}", flush=True)


@contextlib.contextmanager
def process(words: list[str], url: str, log: Path, within_s: float) -> Iterator[None]:
    """A process of this story's own, once it answers at a URL; it is stopped, whatever happens."""
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT) as running:
        try:
            until = time.monotonic() + within_s
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(url, timeout=5).status_code == 200:
                        break
                if running.poll() is not None or time.monotonic() > until:
                    raise StoryError(f"{words[0]} does not answer: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield
        finally:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()


def configuration(folder: Path, world_url: str, port: int) -> Path:
    """Two hosted tiers over the models of known quality, and limits that the story's traffic can decide about."""
    prices = {"cheap": (0.5, 2.0), "frontier": (2.5, 10.0)}
    tiers = [
        {
            "name": name,
            "engine": "openai",
            "model": name,
            "base_url": f"{world_url}/v1",
            "api_key_file": str(folder / "key"),
            "context_tokens": 8192,
            "default_max_tokens": 256,
            "price": {"input_usd_per_mtok": paid[0], "output_usd_per_mtok": paid[1]},
        }
        for name, paid in prices.items()
    ]
    data = {
        "tiers": tiers,
        "state_folder": str(folder / "state"),
        "http": {"port": port},
        "policy": {
            "version": "stable",
            "safe_tier": "frontier",
            "epsilon": 0.1,
            "delta": 0.1,
            "follow_s": 0.5,
            "timeout_s": 10,
        },
        "rollouts": {
            "margin": 0.05,
            "harm_margin": 0.05,
            "latency_limit_s": 4.0,
            "latency_margin": 0.05,
            "settles_s": 5.0,
        },
        "comparisons": {
            "judge": "frontier",
            "budget_usd_per_day": 1000,
            "max_queued": 5000,
            "concurrency": 8,
            "within_s": 15,
        },
        "feedback": {"label_share": 1.0},
        "alarms": {"poll_s": 0.5},
    }
    (folder / "key").write_text("no secret: the models of this story ask for none")
    path = folder / "story.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path
