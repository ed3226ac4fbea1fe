"""Chapters of the story with real models that are no canaries: a shadow, an alarm of labels, and how it ends."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx

from tests.story.local_graph import VERSIONS, LocalStory
from tests.story.running import StoryError, say

MOST = {"shadow": 60, "alarm": 400}
"""Requests within which a chapter has to end."""


async def shadowed(story: LocalStory) -> None:
    """The lenient version decides beside the stable one, and serves nobody."""
    say("the lenient version in shadow")
    number = story.version("lenient", VERSIONS["lenient"])
    story.run("versions", "shadow", number, "--rate", "1", "--reason", "how often do they disagree?")

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = story.rollout_now()["evidence"].get("comparing") or {}
        return found

    took = await story.traffic(lambda: seen().get("compared", 0) >= 12, MOST["shadow"])
    story.run("versions", "abort", "--reason", "seen enough of it in shadow")
    found = story.rollout()["evidence"].get("comparing") or {}
    said = {what: found[what] for what in ("offered", "compared", "ties", "shed", "ungraded") if found.get(what)}
    story.end(f"shadow: after {took} requests, by what came of comparing: {json.dumps(said)}")


async def revoked(story: LocalStory) -> None:
    """Promoted by hand, labels revoke it, and the last tier answers everything."""
    say("somebody promotes it all the same")
    number = story.version("lenient", VERSIONS["lenient"])
    story.run("versions", "promote", number, "--reason", "it is so much cheaper")
    await served(story, number)
    took = await story.traffic(lambda: bool(acting(story)), MOST["alarm"], label=True)
    story.end(f"alarm after {took} labelled requests: {story.ready()['promise']}")
    await answered_by(story, 6, {"frontier"})


async def relabelled(story: LocalStory) -> None:
    """Right grades of the same answers lift nothing by themselves; a person does."""
    say("certified again, on right grades of the answers of before")
    number = story.version("relabelled", VERSIONS["relabelled"])
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
