"""A graph of the two packaged models, and the versions that are made for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from router_models.data.starter import STARTER_OUTCOMES, Task, grade
from serve_graph.cli.versions.rollout_status import latest_rollout
from serve_graph.config.graph import load_config
from tests.story.local_tables import learned_rows
from tests.story.running import ROOT, StoryError, say
from tests.story.story import Made, Story

VERSIONS = {
    "first": Made(0, 0.07),
    "good": Made(0, 0.1, seed=8),
    "equal": Made(0, 0.1, seed=1),
    "slow": Made(0, 0.2, seed=4),
    "German": Made(0, 0.1, seed=5),
    "lenient": Made(0, 0.1, seed=6),
    "relabelled": Made(0, 0.15, seed=3),
}
TRAINED = {"slow": ("--verifier", "logprob")}
"""How a version is trained otherwise than the others: this one knows of an answer how probable its words were."""


@dataclass
class LocalStory(Story):
    """A graph of real engines. `tasks`: what is asked, in this order, again from the start where they are used up.

    `short`: what did not come as it had to, after which the story goes on. `asks`: of which families alone is asked;
    none: of all.
    """

    tasks: list[Task] = field(default_factory=list)
    asked_so_far: int = 0
    place: int = 0
    alike: int = 4
    patience_s: float = 600.0
    short: list[str] = field(default_factory=list)
    asks: tuple[str, ...] = ()

    def question(self) -> tuple[dict[str, Any], Callable[[str], bool]]:
        one = self._next()
        while self.asks and one.family not in self.asks:
            one = self._next()
        self.asked_so_far += 1
        return {"messages": one.chat, **one.carried}, lambda answer: grade(one, answer) >= 1

    def _next(self) -> Task:
        self.place += 1
        return self.tasks[(self.place - 1) % len(self.tasks)]

    async def last_right(self, client: httpx.AsyncClient, body: dict[str, Any], right: Callable[[str], bool]) -> bool:
        """The last tier is asked by name."""
        reply = await client.post("/v1/chat/completions", json={**body, "model": "frontier"})
        return reply.is_success and right(reply.json()["choices"][0]["message"]["content"])

    def proposed(self, name: str, made: Made, first: bool = False) -> str:
        """Train and certify a version on shipped outcomes."""
        table, candidate = self.folder / f"{name}.parquet", self.folder / f"candidate-{name}"
        learned_rows(name).to_parquet(table)
        shutil.copy(f"{STARTER_OUTCOMES}.binds.json", f"{table}.binds.json")
        given = ("--outcomes", str(table))
        if not candidate.exists():
            with_ = ("--router", "surface", "--seed", str(made.seed), *TRAINED.get(name, ()))
            self.run("train", *given, "--out", str(candidate), *with_)
        alias = ("--alias", "stable") if first else ()
        said = self.run(
            "certify", *given, "--candidate", str(candidate), "--epsilon", str(made.epsilon), "--json", *alias
        )
        found = json.loads(said)
        say(f"  {name}: {'; '.join(found['headline'])}")
        return str(found["version"]).rpartition("/")[2]

    def rollout_now(self) -> dict[str, Any]:
        """The rollout, read in this process: a command takes seconds of the processors that the engines need."""
        found = latest_rollout(load_config(self.config))
        if found is None:
            raise StoryError("no rollout was begun")
        return found.shown()


def configuration(folder: Path, port: int, tasks: list[Task]) -> Path:
    """`configs/local.yaml`, with limits that few requests can decide about and programs that grade."""
    data = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    known = folder / "tasks.jsonl"
    known.write_text("".join(json.dumps(one.to_json()) + "\n" for one in tasks))
    data |= {
        "state_folder": str(folder / "state"),
        "http": {"port": port},
        "rollouts": {
            "margin": 0.1, "harm_margin": 0.1, "cost_ceiling": 1.5, "latency_limit_s": 6.0, "settles_s": 30.0,
            "slices": ["en", "de"],
        },
        "comparisons": {
            "judge": "frontier", "budget_usd_per_day": 100, "max_queued": 500, "concurrency": 3, "within_s": 30,
        },
        "graders": {"tasks": [str(known)]},
        "feedback": {"label_share": 1.0},
        "alarms": {"poll_s": 0.5},
    }  # fmt: skip
    data["policy"]["follow_s"] = 0.5
    path = folder / "story.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path
