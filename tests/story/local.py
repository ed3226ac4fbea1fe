"""The story once with real models: `python -m tests.story.local`, or `make story-local`.

The two packaged models of `configs/local.yaml`, as vLLM engines on this machine, and starter tasks that programs
grade. Candidates are tried as canaries: a cheaper version that is good enough, an equal one, one that asks the small
model in vain, one whose German grades were wrong. A last one, certified on grades that let wrong answers pass, decides
in shadow, and is not promoted by its canary. Somebody promotes it all the same: labels revoke it, and the last tier
answers everything. A version that is certified on right grades of the same old answers has the alarm against it from
its first request, until a person lifts it.

Of every canary is said beforehand what the same tests come to on requests drawn from shipped outcomes that no version
is made of. Engines answer a request in seconds, so that a canary has a few hundred at most: one that is undecided then
is ended by a person, and said to be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from router_models.data.slices import language
from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import load_config
from tests.story.expected import Expected, decided, expect
from tests.story.local_alarm import relabelled, revoked, served, shadowed
from tests.story.local_graph import VERSIONS, LocalStory, configuration
from tests.story.local_tables import fresh_tasks, kept_out_questions
from tests.story.running import SERVE_GRAPH, StoryError, process, say

UP_S, LATE = 1200.0, 100
"""Seconds that engines may take to start; requests that are answered while a step waits for its pairs."""


@dataclass(frozen=True)
class Tried:
    """A canary: which version is tried, and what has to come of it; None: anything but that it is promoted.

    `most`, `within_s`: requests and seconds after which it is ended where it is undecided. At `rate` 0 only errors,
    latency and the split are watched, and nothing is compared. `asks`: of which families alone is
    asked meanwhile.
    """

    title: str
    version: str
    state: str | None
    why: str = ""
    steps: str = "50,100"
    minimum: int = 15
    rate: int = 1
    most: int = 350
    within_s: float = 420.0
    asks: tuple[str, ...] = ()

    def as_it_had_to(self, state: str, reason: str) -> bool:
        """Whether it ended as it had to: undecided is no promotion."""
        return state != "Healthy" if self.state is None else state == self.state and self.why in reason


CANARIES = {
    "good": Tried("a cheaper version that is good enough", "good", "Healthy"),
    "equal": Tried("a version as good as the stable one", "equal", "Healthy"),
    "slow": Tried(
        "a version that asks the small model in vain, since it hardly knows a right answer: only the arms are watched",
        "slow", "Degraded", "latency_worse", "50", 0, 0, asks=("records", "drafting"),
    ),
    "german": Tried("a version whose German grades were wrong", "German", "Degraded", "(de)"),
    "canary": Tried("the lenient version as a canary", "lenient", None, steps="34,100", minimum=10),
}  # fmt: skip
CHAPTERS = ("good", "equal", "slow", "german", "shadow", "canary", "alarm", "relabelled")


def prepared(story: LocalStory, chapters: list[str]) -> dict[str, Expected]:
    """Make the versions of some chapters, and find what has to come of each canary, unless a kept folder has it."""
    story.version("first", VERSIONS["first"], first=True)
    wanted = [name for name in CANARIES if name in chapters]
    for name in wanted:
        story.version(CANARIES[name].version, VERSIONS[CANARIES[name].version])
    kept = story.folder / "expected.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    served = story.version("first", VERSIONS["first"])
    for name in wanted:
        number = story.version(CANARIES[name].version, VERSIONS[CANARIES[name].version])
        if name not in found:
            found[name] = asdict(expected_of(story, CANARIES[name], served, number))
            kept.write_text(json.dumps(found))
        say(f"{name}: {Expected(**found[name]).line()}")
        served = number if CANARIES[name].state == "Healthy" else served
    return {name: Expected(**found[name]) for name in wanted}


def expected_of(story: LocalStory, tried: Tried, stable: str, candidate: str) -> Expected:
    """What most draws from the questions that no version is made of come to, by the seconds that they took then."""
    limits, table = load_config(story.config).rollouts.limits(), kept_out_questions(story.config, story.folder)
    asked = decided(story.config, table, (stable, candidate), table.latency_s, lambda prompt: language(prompt, {}))
    of = zip(asked, table.prompts.metadata["family"], strict=True)
    asked = [one for one, family in of if not tried.asks or family in tried.asks]
    shares = [int(step) / 100 for step in tried.steps.split(",")]
    weights = [(i * 60, share) for i, share in enumerate(shares)]
    found = expect(asked, limits, weights, weights[-1][0], paired=tried.rate > 0)
    return replace(found, late=LATE)


async def canary(story: LocalStory, name: str, expected: Expected) -> None:
    """Try a version until its rollout ends, or its requests or its time are used up: a person ends it then."""
    tried = CANARIES[name]
    say(tried.title)
    say(f"  {expected.line()}")
    number = story.version(tried.version, VERSIONS[tried.version])
    story.run(
        "versions", "canary", number, "--steps", tried.steps, "--pause", "20s", "--minimum", str(tried.minimum),
        "--rate", str(tried.rate), "--reason", f"the story's {tried.version} version",
    )  # fmt: skip
    seen: list[tuple[str, float]] = []
    asked, began, story.asks = story.asked_so_far, time.monotonic(), tried.asks

    def over() -> bool:
        now = story.rollout_now()
        at = now["state"], now["weight"]
        if not seen or seen[-1] != at:
            seen.append(at)
            say(f"  {now['state']} at {100 * now['weight']:g} %: {now['reason']}")
        used = story.asked_so_far - asked >= tried.most or time.monotonic() - began >= tried.within_s
        return used or now["state"] in ("Healthy", "Degraded", "Aborted")

    took = await story.traffic(over, 2 * tried.most)
    story.asks = ()
    if seen[-1][0] not in ("Healthy", "Degraded", "Aborted"):
        story.run("versions", "abort", "--reason", f"undecided after {took} requests")
    end = story.rollout()
    for found in end["evidence"].get("findings", []):
        if found["reached"] or found["value"] > 2 or found["effect"] == "promote":
            mark, of = "≥" if found["reached"] else "<", f"{found['name']} ({found['scope']}), n {found['n']}"
            say(f"    {of}: {found['value']:.3g} {mark} {found['limit']:.3g}")
    comparing = end["evidence"].get("comparing") or {}
    said = {what: comparing[what] for what in ("offered", "compared", "shed", "ungraded") if comparing.get(what)}
    took_s = time.monotonic() - began
    story.end(f"{name}: {end['state']} after {took} requests and {took_s:.0f} s: {end['reason']}; {json.dumps(said)}")
    if not tried.as_it_had_to(end["state"], end["reason"]):
        story.short.append(f"{name}: {end['state']}, {end['reason']}; {expected.line()}")
    if tried.state == "Healthy" and end["state"] != "Healthy":
        story.run("versions", "promote", number, "--reason", "undecided; promoted by a person, so that all goes on")
        await served(story, number)


async def tell(story: LocalStory, chapters: list[str], expected: dict[str, Expected]) -> None:
    """Every chapter in order."""
    others = {"shadow": shadowed, "alarm": revoked, "relabelled": relabelled}
    for name in chapters:
        await (canary(story, name, expected[name]) if name in CANARIES else others[name](story))


def main() -> None:
    """Tell the story, or some of its chapters; exit 1 where something else happened than what had to."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("chapters", nargs="*", help=f"{', '.join(CHAPTERS)}; all by default")
    reads.add_argument("--keep", type=Path, help="a folder for the state, which is kept")
    reads.add_argument("--prepare", action="store_true", help="make the versions and say what to expect, no more")
    chosen = reads.parse_args()
    if unknown := set(chosen.chapters) - set(CHAPTERS):
        reads.error(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(CHAPTERS)}")
    folder = (chosen.keep or Path(tempfile.mkdtemp(prefix="story-local-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port, tasks = free_port(), fresh_tasks(3000, seed=11)
    config = configuration(folder, port, tasks)
    story = LocalStory(folder, "", f"http://127.0.0.1:{port}", config, random.Random(2), tasks=tasks)
    chapters = [name for name in CHAPTERS if name in (chosen.chapters or CHAPTERS)]
    try:
        expected = prepared(story, chapters)
        if not chosen.prepare:
            told(story, chapters, expected)
    except StoryError as error:
        say(f"FAILED: {error}")
        say(f"logs and state: {folder}")
        sys.exit(1)
    if chosen.keep is None:
        shutil.rmtree(folder)


def told(story: LocalStory, chapters: list[str], expected: dict[str, Expected]) -> None:
    """Bring the engines up, tell the chapters, and sum up; raises StoryError where one did not end as it had to."""
    graph = [SERVE_GRAPH, "up", "--config", str(story.config)]
    try:
        with process(graph, f"{story.graph_url}/readyz", story.folder / "graph.log", UP_S):
            say(f"real engines answer: {story.ready()['promise']}")
            asyncio.run(tell(story, chapters, expected))
    finally:
        say(f"the end; replies by status: {dict(story.asked)}")
        for line in story.ends:
            say(f"  {line}")
    if story.short:
        raise StoryError("otherwise than it had to be: " + " | ".join(story.short))


if __name__ == "__main__":
    main()
