"""One graph of the story, and what is done to it: commands as a user runs them, traffic, canaries."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from serve_graph.cli.versions.found import found_version
from tests.story.expected import Expected
from tests.story.running import ROOT, SERVE_GRAPH, StoryError, say
from tests.story.tables import Grades, write_outcomes
from tests.story.world import Knows, is_right, task

ALIKE, ROWS = 8, 4000
ENDS = {"Healthy": "promote", "Degraded": "roll_back"}
"""How a rollout ends, and the verdict of its evidence then."""


@dataclass(frozen=True)
class Made:
    """How a version is made: which questions it learns from, who grades them, what is promised."""

    table: int
    epsilon: float
    grades: Grades = is_right
    seed: int = 0
    knows: Knows | None = None


@dataclass
class Story:
    """One graph and what is done to it."""

    folder: Path
    world_url: str
    graph_url: str
    config: Path
    rng: random.Random = field(default_factory=lambda: random.Random(2))
    asked: Counter[str] = field(default_factory=Counter)
    ends: list[str] = field(default_factory=list)
    alike: int = ALIKE
    patience_s: float = 60.0

    def question(self) -> tuple[dict[str, Any], Callable[[str], bool]]:
        """A request, and whether an answer to it is right."""
        prompt = task(self.rng)
        return {"messages": [{"role": "user", "content": prompt}]}, lambda answer: is_right(prompt, answer)

    async def last_right(self, client: httpx.AsyncClient, body: dict[str, Any], right: Callable[[str], bool]) -> bool:
        """Whether the last tier's answer to a request is right."""
        return True

    def run(self, *words: str) -> str:
        """Run a command as a user would; raises StoryError with what it said where it fails."""
        done = subprocess.run(
            [SERVE_GRAPH, *words, "--config", str(self.config)], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise StoryError(f"serve-graph {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
        return done.stdout

    def version(self, name: str, made: Made, first: bool = False) -> str:
        """Train, certify and approve a version, unless a kept folder has it; returns its number."""
        kept = self.folder / "versions.json"
        numbers: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
        if name not in numbers:
            numbers[name] = self._make(name, made, first)
            kept.write_text(json.dumps(numbers))
        return numbers[name]

    def _make(self, name: str, made: Made, first: bool) -> str:
        number = self.proposed(name, made, first)
        self.run("versions", "approve", number, "--reason", f"the story's {name} version", "--by", "story")
        if first:
            self.run("versions", "promote", number)
        say(f"version {number} ({name}) is certified and approved")
        return number

    def proposed(self, name: str, made: Made, first: bool = False) -> str:
        """Train and certify a version, which nobody has reviewed then; returns its number."""
        candidate = self.folder / f"candidate-{name}"
        table = self.folder / f"{name}.parquet"
        outcomes = ("--outcomes", str(write_outcomes(table, ROWS, made.table, made.grades, made.knows)))
        self.run("train", *outcomes, "--out", str(candidate), "--router", "linear", "--seed", str(made.seed))
        alias = ("--alias", "stable") if first else ()
        said = self.run(
            "certify", *outcomes, "--candidate", str(candidate), "--epsilon", str(made.epsilon),
            "--engines-as-configured", "--json", *alias,
        )  # fmt: skip
        return str(json.loads(said)["version"]).rpartition("/")[2]

    async def traffic(self, until: Callable[[], Any], most: int, label: bool = False) -> int:
        """Ask until something is true; returns how many requests that took. With `label` every answer is labelled."""
        done, over = 0, False

        async def caller() -> None:
            nonlocal done
            async with httpx.AsyncClient(base_url=self.graph_url, timeout=self.patience_s) as client:
                while not over:
                    body, is_right_answer = self.question()
                    reply = await client.post("/v1/chat/completions", json={"model": "auto", **body})
                    done += 1
                    self.asked[str(reply.status_code)] += 1
                    if label and reply.is_success:
                        right = is_right_answer(reply.json()["choices"][0]["message"]["content"])
                        said = {
                            "decision": reply.headers["x-serve-graph-decision"], "kind": "label", "value": right,
                            "source": "programmatic",
                            "last_tier_right": right or await self.last_right(client, body, is_right_answer),
                        }  # fmt: skip
                        (await client.post("/v1/feedback", json=said)).raise_for_status()

        callers = [asyncio.create_task(caller()) for _ in range(self.alike)]
        try:
            while not await asyncio.to_thread(until):
                if done > most:
                    raise StoryError(f"nothing came of {done} requests, where {most} had to do")
                if failed := [c for c in callers if c.done()]:
                    failed[0].result()
                await asyncio.sleep(0.5)
        finally:
            over = True
            await asyncio.gather(*callers, return_exceptions=True)
        return done

    def rollout(self) -> dict[str, Any]:
        """The rollout under way, else the last one."""
        found: dict[str, Any] = json.loads(self.run("versions", "rollout", "--json"))
        return found

    async def canary(
        self, number: str, name: str, state: str, why: str, expected: Expected, steps: str, minimum: int
    ) -> None:
        """Try a version with traffic until its rollout ends, and hold the end against what had to come."""
        say(f"  {expected.line()}")
        if expected.verdict != ENDS[state]:
            raise StoryError(f"the {name} version is not what the story says it is: {expected.line()}")
        self.run(
            "versions", "canary", number, "--steps", steps, "--pause", "2s", "--minimum", str(minimum), "--rate", "1",
            "--reason", f"the story's {name} version",
        )  # fmt: skip
        seen: list[tuple[str, float]] = []

        def ended() -> bool:
            now = self.rollout()
            at = now["state"], now["weight"]
            if not seen or seen[-1] != at:
                seen.append(at)
                say(f"  {now['state']} at {100 * now['weight']:g} %: {now['reason']}")
            return now["state"] in ("Healthy", "Degraded", "Aborted")

        took = await self.traffic(ended, expected.bound)
        end = self.rollout()
        for found in end["evidence"].get("findings", []):
            if found["reached"] or found["effect"] == "promote":
                mark = "≥" if found["reached"] else "<"
                of = f"{found['name']} ({found['scope']}), n {found['n']}"
                say(f"    {of}: {found['value']:.3g} {mark} {found['limit']:.3g}")
        self.end(f"{name}: {end['state']} after {took} requests (of {expected.bound}): {end['reason']}")
        if end["state"] != state or why not in end["reason"]:
            raise StoryError(f"the {name} version had to be {state} {why}: it is {end['state']}, {end['reason']}")

    def end(self, what: str) -> None:
        """Say what a chapter came to, now and once more at the end."""
        self.ends.append(what)
        say(f"  {what}")

    def served(self) -> str:
        """The number of the stable version."""
        return str(found_version("stable", self.config)[0].number)

    def ready(self) -> dict[str, Any]:
        """What the graph says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.graph_url}/readyz", timeout=30).json()
        return found

    def change(self, **what: Any) -> None:
        """Change what the models know, or how long they take."""
        httpx.post(f"{self.world_url}/world", json=what, timeout=30).raise_for_status()
