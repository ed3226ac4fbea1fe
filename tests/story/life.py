"""The life of router versions on a real graph, over models of known quality: `make story`.

A first version is certified and serves. Then candidates are tried as canaries: one that is cheaper and good enough,
an equal one, one that was certified on lenient grades, one whose German grades were wrong, one that is slow. At last
the cheap model itself goes bad: labels revoke the certificate, the last tier answers everything, and a version that
was certified on new labels takes over. Every chapter says what was expected and what happened; any difference is an
error. What is printed is read from the graph: rollouts, evidence, alarms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.story.running import ROOT, SERVE_GRAPH, StoryError, configuration, free_port, process, say
from tests.story.tables import german_unseen, lenient, write_outcomes
from tests.story.world import Knows, is_right, task

ALIKE = 8


@dataclass
class Story:
    """One graph and what is done to it."""

    folder: Path
    world_url: str
    graph_url: str
    config: Path
    rng: random.Random = field(default_factory=lambda: random.Random(2))
    asked: Counter[str] = field(default_factory=Counter)

    def run(self, *words: str, ok: bool = True) -> str:
        """Run a command as a user would; raises StoryError with what it said where it fails."""
        done = subprocess.run(
            [SERVE_GRAPH, *words, "--config", str(self.config)], capture_output=True, text=True, cwd=ROOT
        )
        if ok and done.returncode:
            raise StoryError(f"serve-graph {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
        return done.stdout

    def make(self, name: str, outcomes: Path, *, epsilon: float, seed: int = 0, first: bool = False) -> str:
        """Train, certify and approve a version; returns its number."""
        candidate = self.folder / f"candidate-{name}"
        made = ("--outcomes", str(outcomes))
        self.run("train", *made, "--out", str(candidate), "--router", "linear", "--seed", str(seed))
        alias = ("--alias", "stable") if first else ()
        said = self.run(
            "certify", *made, "--candidate", str(candidate), "--epsilon", str(epsilon), "--engines-as-configured",
            "--json", *alias,
        )  # fmt: skip
        number = str(json.loads(said)["version"]).rpartition("/")[2]
        self.run("versions", "approve", number, "--reason", f"the story's {name} version", "--by", "story")
        if first:
            self.run("versions", "promote", number)
        say(f"version {number} ({name}) is certified and approved")
        return number

    async def traffic(self, until: Callable[[], Any], label: bool = False, most: int = 6000) -> int:
        """Ask until something is true; returns how many requests that took. With `label` every answer is labelled."""
        done, over = 0, False

        async def caller() -> None:
            nonlocal done
            async with httpx.AsyncClient(base_url=self.graph_url, timeout=60) as client:
                while not over:
                    prompt = task(self.rng)
                    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
                    reply = await client.post("/v1/chat/completions", json=body)
                    done += 1
                    self.asked[str(reply.status_code)] += 1
                    if label and reply.is_success:
                        right = is_right(prompt, reply.json()["choices"][0]["message"]["content"])
                        said = {
                            "decision": reply.headers["x-serve-graph-decision"], "kind": "label", "value": right,
                            "source": "programmatic", "last_tier_right": True,
                        }  # fmt: skip
                        (await client.post("/v1/feedback", json=said)).raise_for_status()

        callers = [asyncio.create_task(caller()) for _ in range(ALIKE)]
        try:
            while not await asyncio.to_thread(until):
                if done > most:
                    raise StoryError(f"nothing came of {done} requests")
                if failed := [c for c in callers if c.done()]:
                    failed[0].result()
                await asyncio.sleep(0.5)
        finally:
            over = True
            await asyncio.gather(*callers, return_exceptions=True)
        return done

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("versions", "rollout", "--json"))
        return found

    async def canary(self, number: str, name: str, expected: str, why: str = "", steps: str = "10,50,100") -> None:
        """Try a version with traffic until its rollout ends, and hold the end against what had to come."""
        self.run(
            "versions", "canary", number, "--steps", steps, "--pause", "2s", "--minimum", "20", "--rate", "1",
            "--reason", f"the story's {name} version",
        )  # fmt: skip
        seen: list[tuple[str, float]] = []

        def ended() -> bool:
            now = self.rollout()
            state = now["state"], now["weight"]
            if not seen or seen[-1] != state:
                seen.append(state)
                say(f"  {now['state']} at {100 * now['weight']:g} %: {now['reason']}")
            return now["state"] in ("Healthy", "Degraded", "Aborted")

        took = await self.traffic(ended)
        end = self.rollout()
        for found in end["evidence"].get("findings", []):
            if found["reached"] or found["effect"] == "promote":
                mark = "≥" if found["reached"] else "<"
                of = f"{found['name']} ({found['scope']}), n {found['n']}"
                say(f"    {of}: {found['value']:.3g} {mark} {found['limit']:.3g}")
        say(f"  {end['state']} after {took} requests: {end['reason']}")
        if end["state"] != expected or why not in end["reason"]:
            raise StoryError(f"the {name} version had to be {expected} {why}: it is {end['state']}, {end['reason']}")

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.graph_url}/readyz", timeout=30).json()
        return found

    def change(self, **what: Any) -> None:
        httpx.post(f"{self.world_url}/world", json=what, timeout=30).raise_for_status()


async def tell(story: Story, chapters: set[str]) -> None:
    """Every chapter in order; raises StoryError where one ends otherwise than it has to."""
    folder, rows = story.folder, 4000

    def wanted(chapter: str) -> bool:
        return not chapters or chapter in chapters

    honest = write_outcomes(folder / "honest.parquet", rows, 1)
    if wanted("better"):
        say("a cheaper version that is good enough")
        number = story.make("better", honest, epsilon=0.065, seed=1)
        await story.canary(number, "better", "Healthy")
    if wanted("equal"):
        say("a version that decides like the stable one")
        number = story.make("equal", write_outcomes(folder / "again.parquet", rows, 5), epsilon=0.065, seed=1)
        await story.canary(number, "equal", "Healthy")
    if wanted("worse"):
        say("a version that was certified on lenient grades")
        number = story.make("worse", write_outcomes(folder / "lenient.parquet", rows, 3, lenient), epsilon=0.1)
        await story.canary(number, "worse", "Degraded", "worse")
    if wanted("german"):
        say("a version whose German grades were wrong")
        table = write_outcomes(folder / "german.parquet", rows, 4, german_unseen)
        number = story.make("German", table, epsilon=0.1)
        await story.canary(number, "German", "Degraded", "de")
    if wanted("slow"):
        say("a last tier that has become slow, and a version that sends it nearly everything")
        number = story.make("careful", write_outcomes(folder / "careful.parquet", rows, 6), epsilon=0.02)
        story.change(takes_s={"frontier": 1.5})
        await story.canary(number, "careful", "Degraded", "latency_worse")
        story.change(takes_s={"frontier": 0.05})
    if wanted("drift"):
        await drift(story, rows)


async def drift(story: Story, rows: int) -> None:
    """The cheap model goes bad: labels revoke, the last tier answers all, and new labels certify again."""
    say("the cheap model forgets its German")
    bad: Knows = {"cheap": {"de1": 0.2, "de2": 0.1}}
    before = story.ready()
    if before["alarms"]:
        raise StoryError(f"an alarm stands before anything happened: {before['alarms']}")
    story.change(knows=bad)
    took = await story.traffic(lambda: bool(story.ready()["alarms"]), label=True)
    now = story.ready()
    say(f"  after {took} labelled requests: {now['promise']}")
    tiers: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=story.graph_url, timeout=60) as client:
        for _ in range(40):
            body = {"model": "auto", "messages": [{"role": "user", "content": task(story.rng)}]}
            tiers[(await client.post("/v1/chat/completions", json=body)).headers["x-serve-graph-tier"]] += 1
    say(f"  safe mode: {dict(tiers)}")
    if set(tiers) != {"frontier"}:
        raise StoryError(f"the cheap tier still answers: {dict(tiers)}")
    number = story.make("relabelled", write_outcomes(story.folder / "new.parquet", rows, 7, knows=bad), epsilon=0.1)
    story.run("versions", "promote", number, "--reason", "certified on labels of today")
    took = await story.traffic(lambda: story.ready()["version"].endswith(f"/{number}"))
    now = story.ready()
    say(f"  version {number} serves: {now['promise']}")
    if now["alarms"]:
        raise StoryError(f"an alarm stands against the new version: {now['alarms']}")


def main() -> None:
    """Tell the story, or some of its chapters; exit 1 where something else happened than what had to."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("chapters", nargs="*", help="better, equal, worse, german, slow, drift; all by default")
    reads.add_argument("--keep", type=Path, help="a folder for the state, which is kept")
    chosen = reads.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="story-"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "world.port"  # certificates are bound to where the models are
    world_port, port = int(kept.read_text()) if kept.exists() else free_port(), free_port()
    kept.write_text(str(world_port))
    world_url = f"http://127.0.0.1:{world_port}"
    story = Story(folder, world_url, f"http://127.0.0.1:{port}", configuration(folder, world_url, port))
    try:
        world = [sys.executable, "-m", "tests.story.world", str(world_port)]
        with process(world, f"{world_url}/docs", folder / "world.log", 30):
            say("models of known quality answer")
            if not (folder / "first.parquet").exists():  # a folder that was kept goes on with its first version
                story.make("first", write_outcomes(folder / "first.parquet", 4000, 0), epsilon=0.05, first=True)
            graph = [SERVE_GRAPH, "up", "--config", str(story.config)]
            with process(graph, f"{story.graph_url}/readyz", folder / "graph.log", 180):
                say(f"the graph serves: {story.ready()['promise']}")
                asyncio.run(tell(story, set(chosen.chapters)))
        say(f"the end; replies by status: {dict(story.asked)}")
    except StoryError as error:
        say(f"FAILED: {error}")
        say(f"logs and state: {folder}")
        sys.exit(1)
    if chosen.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
