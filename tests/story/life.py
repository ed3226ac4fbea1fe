"""The life of router versions on a real graph, over models of known quality: `make story`.

A first version is certified and serves. Then candidates are tried as canaries: one that is cheaper and good enough;
the first one again, which asks the cheap model in vain more often, while both are slow; an equal one; one that was
certified on lenient grades; one whose German grades were wrong. At last the cheap model itself goes bad: labels revoke
the certificate, the last tier answers everything, and a version that was certified on new labels takes over. Of every
canary is said beforehand what the same tests come to on drawn requests, and within how many the graph has to come to
it; any difference is an error. What is printed is read from the graph: rollouts, evidence, alarms.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import load_config
from tests.story.expected import Expected, decided, expect, fresh_questions
from tests.story.running import SERVE_GRAPH, StoryError, configuration, process, say
from tests.story.story import Made, Story
from tests.story.tables import german_unseen, lenient
from tests.story.world import Knows, World, task

FORGOTTEN: Knows = {"cheap": {"de1": 0.2, "de2": 0.1}}
VERSIONS = {
    "first": Made(0, 0.03),
    "better": Made(1, 0.07, seed=1),
    "equal": Made(1, 0.07, seed=2),
    "worse": Made(3, 0.1, lenient),
    "German": Made(4, 0.045, german_unseen),
    "relabelled": Made(7, 0.1, knows=FORGOTTEN),
}


@dataclass(frozen=True)
class Chapter:
    """A canary: which version is tried, and what has to come of it. `slow`: the seconds that models take meanwhile."""

    title: str
    version: str
    state: str
    why: str = ""
    slow: dict[str, float] | None = None
    steps: str = "10,50,100"
    minimum: int = 20

    @property
    def takes_s(self) -> dict[str, float]:
        return {**World().takes_s, **(self.slow or {})}


CHAPTERS = {
    "better": Chapter("a cheaper version that is good enough", "better", "Healthy"),
    "slow": Chapter(
        "both models are slow, and the version of before asks the one in vain more often before the other",
        "first", "Degraded", "latency_worse", {"cheap": 2.4, "frontier": 2.4}, "50,100", 1500,
    ),
    "equal": Chapter("a version as good as the stable one", "equal", "Healthy"),
    "worse": Chapter("a version that was certified on lenient grades", "worse", "Degraded", "harm_worse"),
    "german": Chapter("a version whose German grades were wrong", "German", "Degraded", "harm_worse (de)"),
}  # fmt: skip


def prepared(story: Story, chapters: list[str]) -> dict[str, Expected]:
    """Make the versions of some chapters, and find what has to come of each."""
    story.version("first", VERSIONS["first"], first=True)
    wanted = [CHAPTERS[name] for name in chapters if name in CHAPTERS]
    numbers = {name: story.version(name, VERSIONS[name]) for name in VERSIONS if name in {c.version for c in wanted}}
    numbers["first"] = story.version("first", VERSIONS["first"])
    if not wanted:
        return {}
    limits, table = load_config(story.config).rollouts.limits(), fresh_questions(story.config, story.folder)
    found, served = {}, story.served()
    for name in chapters:
        if name not in CHAPTERS:
            continue
        chapter = CHAPTERS[name]
        asked = decided(story.config, table, (served, numbers[chapter.version]), chapter.takes_s)
        shares = [int(step) / 100 for step in chapter.steps.split(",")]
        weights = [(i * max(chapter.minimum, 60), share) for i, share in enumerate(shares)]
        found[name] = expect(asked, limits, weights, weights[-1][0])
        say(f"{name}: {found[name].line()}")
        if chapter.state == "Healthy":
            served = numbers[chapter.version]
    return found


async def tell(story: Story, chapters: list[str], expected: dict[str, Expected]) -> None:
    """Every chapter in order; raises StoryError where one ends otherwise than it has to."""
    for name in chapters:
        if name not in CHAPTERS:
            await drift(story)
            continue
        chapter = CHAPTERS[name]
        say(chapter.title)
        number = story.version(chapter.version, VERSIONS[chapter.version])
        if chapter.slow:
            story.change(takes_s=chapter.slow)
        await story.canary(number, name, chapter.state, chapter.why, expected[name], chapter.steps, chapter.minimum)
        if chapter.slow:
            story.change(takes_s=World().takes_s)


async def drift(story: Story) -> None:
    """The cheap model goes bad: labels revoke, the last tier answers all, and new labels certify again."""
    say("the cheap model forgets its German")
    before = story.ready()
    if before["alarms"]:
        raise StoryError(f"an alarm stands before anything happened: {before['alarms']}")
    story.change(knows=FORGOTTEN)
    took = await story.traffic(lambda: bool(story.ready()["alarms"]), 1000, label=True)
    story.end(f"drift: the alarm after {took} labelled requests: {story.ready()['promise']}")
    tiers: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=story.graph_url, timeout=60) as client:
        for _ in range(40):
            body = {"model": "auto", "messages": [{"role": "user", "content": task(story.rng)}]}
            tiers[(await client.post("/v1/chat/completions", json=body)).headers["x-serve-graph-tier"]] += 1
    story.end(f"drift: safe mode, {dict(tiers)}")
    if set(tiers) != {"frontier"}:
        raise StoryError(f"the cheap tier still answers: {dict(tiers)}")
    number = story.version("relabelled", VERSIONS["relabelled"])
    story.run("versions", "promote", number, "--reason", "certified on labels of today")
    await story.traffic(lambda: story.ready()["version"].endswith(f"/{number}"), 2000)
    now = story.ready()
    if now["alarms"]:
        raise StoryError(f"an alarm stands against the new version: {now['alarms']}")
    before_labels = sum(story.asked.values())
    await story.traffic(lambda: sum(story.asked.values()) >= before_labels + 300, 2000, label=True)
    if story.ready()["alarms"]:
        raise StoryError(f"an alarm stands against the new version: {story.ready()['alarms']}")
    story.end(f"drift: version {number}, certified again, serves: {now['promise']}; no alarm after 300 more labels")


def main() -> None:
    """Tell the story, or some of its chapters; exit 1 where something else happened than what had to."""
    names = [*CHAPTERS, "drift"]
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("chapters", nargs="*", help=f"{', '.join(names)}; all by default")
    reads.add_argument("--keep", type=Path, help="a folder for the state, which is kept")
    reads.add_argument("--prepare", action="store_true", help="make the versions and say what to expect, no more")
    chosen = reads.parse_args()
    if unknown := set(chosen.chapters) - set(names):
        reads.error(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="story-"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "world.port"  # certificates are bound to where the models are
    world_port, port = int(kept.read_text()) if kept.exists() else free_port(), free_port()
    kept.write_text(str(world_port))
    world_url = f"http://127.0.0.1:{world_port}"
    story = Story(folder, world_url, f"http://127.0.0.1:{port}", configuration(folder, world_url, port))
    chapters = [name for name in names if name in (chosen.chapters or names)]
    try:
        expected = prepared(story, chapters)
        if not chosen.prepare:
            told(story, world_port, chapters, expected)
    except StoryError as error:
        say(f"FAILED: {error}")
        say(f"logs and state: {folder}")
        sys.exit(1)
    if chosen.keep is None:
        shutil.rmtree(folder)


def told(story: Story, world_port: int, chapters: list[str], expected: dict[str, Expected]) -> None:
    """Bring models and graph up, tell the chapters, and sum up."""
    world = [sys.executable, "-m", "tests.story.world", str(world_port)]
    with process(world, f"{story.world_url}/docs", story.folder / "world.log", 60):
        say("models of known quality answer")
        graph = [SERVE_GRAPH, "up", "--config", str(story.config)]
        with process(graph, f"{story.graph_url}/readyz", story.folder / "graph.log", 900):
            say(f"the graph serves: {story.ready()['promise']}")
            asyncio.run(tell(story, chapters, expected))
    say(f"the end; replies by status: {dict(story.asked)}")
    for line in story.ends:
        say(f"  {line}")


if __name__ == "__main__":
    main()
