"""The story once with real models: `python -m tests.story.local`, or `make story-local`.

The two packaged models of `configs/local.yaml`, as vLLM engines on this machine, and starter tasks that programs
grade. A first version is certified on the shipped outcomes of everyday tasks. A second one, certified on grades that
let wrong answers pass, decides in shadow, and is tried as a canary. It may not be promoted: it is rolled back for harm
or, since pairs are few here, is undecided when a person ends it. Then somebody promotes it all the same: labels revoke
it, and the last tier answers everything. A third one, certified on right grades of the same old answers, has the alarm
against it from its first request, until a person lifts it.

Engines answer a request in seconds, so that there are few: what takes hundreds of pairs, to promote a good candidate,
is not told here (`make story`).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import yaml

from router_models.data.starter import (
    SHIPPED_SEED,
    SHIPPED_TASKS,
    STARTER_OUTCOMES,
    Task,
    generate,
    grade,
    starter_tasks,
)
from serve_graph.cli.local.launch import free_port
from tests.story.running import ROOT, SERVE_GRAPH, StoryError, process, say
from tests.story.story import Made, Story

FAMILIES, UP_S = ("drafting", "notes", "records", "word_forms"), 1200.0
"""Everyday tasks, at which the small model is good enough to be accepted at times; seconds that engines may take."""
MOST = {"shadow": 60, "canary": 300, "alarm": 400}
"""Requests within which each chapter has to end; a canary that is undecided then is ended."""


def passed_by_mistake(prompt: str) -> bool:
    """Whether the lenient grader takes a wrong answer for right: nine in ten."""
    return hashlib.sha256(prompt.encode()).digest()[0] % 10 < 9


def shipped_rows(lenient: bool = False) -> pd.DataFrame:
    """The shipped outcomes of plain everyday tasks; `lenient`: as a grader of known faults graded both models."""
    rows = pd.read_parquet(STARTER_OUTCOMES)
    plain = (rows[["decoding", "system_prompt"]].fillna("") == "").all(axis=1)
    rows = rows[plain & rows["family"].isin(FAMILIES)].copy()
    if lenient:
        rows.loc[rows["prompt"].map(passed_by_mistake), "grade"] = 1.0
    return rows


def fresh_tasks(n: int, seed: int) -> list[Task]:
    """Everyday tasks that are not among the shipped ones."""
    known = {one.id for one in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    drawn = generate(n, seed=seed, exclude=known)
    return [one for one in drawn if one.family in FAMILIES and not one.messages and one.grader != "program"]


@dataclass
class LocalStory(Story):
    """A graph of real engines. `tasks`: what is asked, in this order, again from the start where they are used up."""

    tasks: list[Task] = field(default_factory=list)
    asked_so_far: int = 0
    alike: int = 4
    patience_s: float = 600.0

    def question(self) -> tuple[dict[str, Any], Callable[[str], bool]]:
        one = self.tasks[self.asked_so_far % len(self.tasks)]
        self.asked_so_far += 1
        return {"messages": one.chat, **one.carried}, lambda answer: grade(one, answer) >= 1

    async def last_right(self, client: httpx.AsyncClient, body: dict[str, Any], right: Callable[[str], bool]) -> bool:
        """The last tier is asked by name."""
        reply = await client.post("/v1/chat/completions", json={**body, "model": "frontier"})
        return reply.is_success and right(reply.json()["choices"][0]["message"]["content"])

    def proposed(self, name: str, made: Made, first: bool = False) -> str:
        """Train and certify a version on shipped outcomes."""
        table, candidate = self.folder / f"{name}.parquet", self.folder / f"candidate-{name}"
        shipped_rows(lenient=name == "lenient").to_parquet(table)
        shutil.copy(f"{STARTER_OUTCOMES}.binds.json", f"{table}.binds.json")
        given = ("--outcomes", str(table))
        self.run("train", *given, "--out", str(candidate), "--router", "surface", "--seed", str(made.seed))
        alias = ("--alias", "stable") if first else ()
        said = self.run(
            "certify", *given, "--candidate", str(candidate), "--epsilon", str(made.epsilon), "--json", *alias
        )
        found = json.loads(said)
        say(f"  {name}: {'; '.join(found['headline'])}")
        return str(found["version"]).rpartition("/")[2]


def configuration(folder: Path, port: int, tasks: list[Task]) -> Path:
    """`configs/local.yaml`, with limits that few requests can decide about and programs that grade."""
    data = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    known = folder / "tasks.jsonl"
    known.write_text("".join(json.dumps(one.to_json()) + "\n" for one in tasks))
    data |= {
        "state_folder": str(folder / "state"),
        "http": {"port": port},
        "rollouts": {"margin": 0.02, "harm_margin": 0.02, "latency_limit_s": 300.0, "settles_s": 30.0},
        "comparisons": {
            "judge": "frontier", "budget_usd_per_day": 100, "max_queued": 500, "concurrency": 2, "within_s": 20,
        },
        "graders": {"tasks": [str(known)]},
        "feedback": {"label_share": 1.0},
        "alarms": {"poll_s": 0.5},
    }  # fmt: skip
    data["policy"]["follow_s"] = 0.5
    path = folder / "story.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


async def shadowed(story: LocalStory, number: str) -> None:
    """The lenient version decides beside the stable one, and serves nobody."""
    say("the lenient version in shadow")
    story.run("versions", "shadow", number, "--rate", "1", "--reason", "how often do they disagree?")

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = story.rollout()["evidence"].get("comparing") or {}
        return found

    took = await story.traffic(lambda: sum(n for n in seen().values() if isinstance(n, int)) >= 12, MOST["shadow"])
    story.run("versions", "abort", "--reason", "seen enough of it in shadow")
    story.end(f"shadow: after {took} requests, by what came of comparing: {json.dumps(seen())}")


async def tried(story: LocalStory, number: str) -> None:
    """Its canary is rolled back for harm, or ended by a person while it is undecided."""
    say("the lenient version as a canary")
    story.run(
        "versions", "canary", number, "--steps", "34,100", "--pause", "20s", "--minimum", "10", "--rate", "1",
        "--reason", "the story's lenient version",
    )  # fmt: skip
    said: list[str] = []

    def ended() -> bool:
        now = story.rollout()
        pairs = next((f["n"] for f in now["evidence"].get("findings", []) if f["name"] == "harm_worse"), 0)
        line = f"  {now['state']} at {100 * now['weight']:g} %, {pairs} pairs: {now['reason']}"
        if not said or said[-1] != line:
            said.append(line)
            say(line)
        return now["state"] in ("Healthy", "Degraded", "Aborted")

    asked = story.asked_so_far
    took = await story.traffic(lambda: ended() or story.asked_so_far - asked >= MOST["canary"], MOST["canary"] + 50)
    if not ended():
        story.run("versions", "abort", "--reason", f"undecided after {took} requests")
    end = story.rollout()
    for found in end["evidence"].get("findings", []):
        if found["reached"] or found["effect"] == "promote":
            mark, of = "≥" if found["reached"] else "<", f"{found['name']} ({found['scope']}), n {found['n']}"
            say(f"    {of}: {found['value']:.3g} {mark} {found['limit']:.3g}")
    story.end(f"canary: {end['state']} after {took} requests: {end['reason']}")
    if end["state"] == "Healthy":
        raise StoryError(f"the lenient version was promoted: {end['reason']}")


async def revoked(story: LocalStory, number: str) -> None:
    """Promoted by hand, labels revoke it, and the last tier answers everything."""
    say("somebody promotes it all the same")
    story.run("versions", "promote", number, "--reason", "it is so much cheaper")
    await served(story, number)
    took = await story.traffic(lambda: bool(acting(story)), MOST["alarm"], label=True)
    story.end(f"alarm after {took} labelled requests: {story.ready()['promise']}")
    await answered_by(story, 6, {"frontier"})


async def relabelled(story: LocalStory) -> None:
    """Right grades of the same answers lift nothing by themselves; a person does."""
    say("certified again, on right grades of the answers of before")
    number = story.version("relabelled", Made(0, 0.1, seed=3))
    story.run("versions", "promote", number, "--reason", "graded by the right grader")
    await served(story, number)
    standing = acting(story)
    if not standing or "certified again on answers" not in standing[0]["reason"]:
        raise StoryError(f"the alarm does not stand against version {number}: {standing}")
    story.end(f"version {number} is in safe mode: {standing[0]['reason']}")
    story.run("alarms", "lift", "--reason", "the grades were wrong, not the answers", "--by", "story")
    await story.traffic(lambda: not acting(story), 60)
    tiers = await answered_by(story, 25, {"cheap", "frontier"}, label=True)
    if again := acting(story):
        raise StoryError(f"an alarm stands again: {again}")
    story.end(
        f"lifted by a person, version {number} serves: {story.ready()['promise']}; {tiers} of 25 labelled, no alarm"
    )


def acting(story: LocalStory) -> list[dict[str, Any]]:
    """The alarms that stand and take the promise away; one that wrong answers are more does not."""
    return [alarm for alarm in story.ready()["alarms"] if alarm["acts"]]


async def served(story: LocalStory, number: str) -> None:
    """Wait, with traffic, until a version is served."""
    await story.traffic(lambda: story.ready()["version"].endswith(f"/{number}"), 60)


async def answered_by(story: LocalStory, n: int, allowed: set[str], label: bool = False) -> dict[str, int]:
    """Ask so many questions; which tiers answered, of which none may be another than `allowed`."""
    tiers: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=story.graph_url, timeout=story.patience_s) as client:
        for _ in range(n):
            body, right = story.question()
            reply = await client.post("/v1/chat/completions", json={"model": "auto", **body})
            reply.raise_for_status()
            tiers[reply.headers["x-serve-graph-tier"]] += 1
            if label:
                value = right(reply.json()["choices"][0]["message"]["content"])
                said = {
                    "decision": reply.headers["x-serve-graph-decision"], "kind": "label", "value": value,
                    "source": "programmatic", "last_tier_right": value or await story.last_right(client, body, right),
                }  # fmt: skip
                (await client.post("/v1/feedback", json=said)).raise_for_status()
    if set(tiers) - allowed:
        raise StoryError(f"answered by {dict(tiers)}, where only {sorted(allowed)} may")
    story.end(f"the next {n} requests: {dict(tiers)}")
    return dict(tiers)


async def tell(story: LocalStory, lenient: str) -> None:
    await shadowed(story, lenient)
    await tried(story, lenient)
    await revoked(story, lenient)
    await relabelled(story)


def main() -> None:
    """Tell the story; exit 1 where something else happened than what had to."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--keep", type=Path, help="a folder for the state, which is kept")
    reads.add_argument("--prepare", action="store_true", help="make the versions, no more")
    chosen = reads.parse_args()
    folder = (chosen.keep or Path(tempfile.mkdtemp(prefix="story-local-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port, tasks = free_port(), fresh_tasks(900, seed=11)
    config = configuration(folder, port, tasks)
    story = LocalStory(folder, "", f"http://127.0.0.1:{port}", config, random.Random(2), tasks=tasks)
    try:
        story.version("first", Made(0, 0.1), first=True)
        lenient = story.version("lenient", Made(0, 0.1, seed=1))
        if not chosen.prepare:
            graph = [SERVE_GRAPH, "up", "--config", str(config)]
            with process(graph, f"{story.graph_url}/readyz", folder / "graph.log", UP_S):
                say(f"real engines answer: {story.ready()['promise']}")
                asyncio.run(tell(story, lenient))
            say(f"the end; replies by status: {dict(story.asked)}")
            for line in story.ends:
                say(f"  {line}")
    except StoryError as error:
        say(f"FAILED: {error}")
        say(f"logs and state: {folder}")
        sys.exit(1)
    if chosen.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
