"""The phases of the story: what is done to the cluster, and what has to be so again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from serve_graph.config.records import RecordsConfig
from serve_graph.records.store import DecisionStore
from tests.nodes.callers import KINDS, Callers
from tests.nodes.cluster import KEY, PORT, Cluster, register_versions, until
from tests.nodes.services import STORE_URL, Services
from tests.nodes.table import Phase, page

QUIET_S, SHORT_S, LONG_S, HEAD_AWAY_S = 10.0, 10.0, 60.0, 10.0
AGAIN_WITHIN_S = 240.0
BEGAN = time.monotonic()


def say(what: str) -> None:
    print(f"{time.monotonic() - BEGAN:7.1f} s  {what}", flush=True)


class Story:
    """One cluster, its callers, and what became of both."""

    def __init__(self, cluster: Cluster, services: Services) -> None:
        self.cluster = cluster
        self.services = services
        self.cheap, self.frontier = (cluster.workers[name] for name in ("cheap", "frontier"))
        self.callers = Callers([worker.address for worker in cluster.workers.values()], PORT, KEY)
        self.phases: list[Phase] = []
        self.faults: list[str] = []
        self.version = "serve-graph-router/1"

    def tell(self, names: list[str]) -> str:
        """Bring everything up, tell the phases, count; returns the page."""
        self.services.start()
        say("PostgreSQL, MLflow and Redis answer")
        register_versions(self.cluster.graph, self.cluster.root / "versions")
        say("two approved versions are registered")
        self.cluster.start()
        say("Ray's head answers")
        self.cluster.deploy()
        until(self.well, AGAIN_WITHIN_S, "the graph answers", self.cluster.head, self.cheap, self.frontier)
        say(f"the graph answers; placed: {self.cluster.placed()}; copies: {self.cluster.copies()}")
        with self.callers:
            time.sleep(5)
            for name in names:
                PHASES[name](self)
        return page(self.phases, self.callers.replies, [*self.placed(), *self.nothing_lost()], self.callers.threads)

    def end(self) -> None:
        """Everything ends with this process; this is for order."""
        for host in (*self.cluster.workers.values(), self.cluster.head):
            host.kill()
        self.services.stop()

    def well(self) -> bool:
        """Whether every worker is ready, serves what is promoted, and answers each kind of request twice."""
        for worker in self.cluster.workers.values():
            told = self.cluster.readiness(worker)
            if told.get("version") != self.version or told.get("tiers_ready") != {"cheap": True, "frontier": True}:
                return False
        asked = [
            self.callers.ask(worker.address, f"is all well, {i}?", kind)
            for worker in self.cluster.workers.values()
            for i, kind in enumerate(KINDS * 2)
        ]
        return {reply.said for reply in asked} <= {"200", "200 accepted", "200 forced"}

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        """Do something to the cluster; afterwards wait until all is well again."""
        phase = Phase(title, time.monotonic())
        self.phases.append(phase)
        say(title)
        yield phase
        if not phase.since:
            phase.ended = time.monotonic()
            return
        began = time.monotonic()
        try:
            until(self.well, AGAIN_WITHIN_S, f"all is well again after: {title}")
            phase.recovered_s = time.monotonic() - began
        except RuntimeError as error:
            self.faults.append(str(error))
            say(f"FAULT: {error}: {[self.cluster.readiness(w) for w in self.cluster.workers.values()]}")
        time.sleep(3)
        phase.ended = time.monotonic()
        say(phase.line(self.callers.replies))

    def placed(self) -> list[str]:
        found = sorted(self.cluster.placed().items())
        listed = "; ".join(f"{name}: {', '.join(deployments)}" for name, deployments in found)
        return [f"Where replicas are at the end: {listed}."]

    def nothing_lost(self) -> list[str]:
        """Every answered request has its record, once."""
        self._until_told()
        answered = [reply.decision for reply in self.callers.replies if reply.whole and reply.said.startswith("200")]
        recorded = asyncio.run(_ids())
        missing = set(answered) - set(recorded)
        twice = len(answered) - len(set(answered))
        others = len({reply.decision for reply in self.callers.replies if reply.decision} - set(answered))
        if missing or twice or "" in answered:
            self.faults.append(f"{len(missing)} answered requests have no record, {twice} share another's decision")
        return [
            f"Of {len(answered):,} answered requests, {len(set(answered) & set(recorded)):,} have their record in the "
            f"store (where an id is there once); {twice} share another's decision. Replies with a decision that were "
            f"no answers: {others}.",
            *(f"**Fault**: {fault}" for fault in self.faults),
        ]

    def _until_told(self) -> None:
        """Until the store has grown no more for five seconds."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < 5:
            if (now := len(asyncio.run(_ids()))) != before:
                before, since = now, time.monotonic()
            time.sleep(1)


async def _ids() -> list[str]:
    store = DecisionStore(RecordsConfig(url=STORE_URL).url or STORE_URL)
    try:
        return [record.id for record in await store.latest(1_000_000)]
    finally:
        await store.close()


def quiet(story: Story) -> None:
    with story.phase("nothing") as phase:
        time.sleep(QUIET_S)
        copies = story.cluster.copies()
        if any(len(found) != 1 for found in copies.values()):
            story.faults.append(f"a worker has not fetched the version: {copies}")
        phase.notes.append(f"each worker fetched the version into its own folder: {_listed(copies)}.")


def promote(story: Story) -> None:
    with story.phase("version 2 is promoted") as phase:
        command = [str(Path(sys.executable).with_name("serve-graph")), "versions", "promote", "2", "--allow-loss"]
        done = subprocess.run(
            [*command, "--config", str(story.cluster.config)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise RuntimeError(f"versions promote: {done.stdout}{done.stderr}")
        phase.since, story.version = "after the command", "serve-graph-router/2"
    copies = story.cluster.copies()
    if any(len(found) != 2 for found in copies.values()):
        story.faults.append(f"a worker has not fetched version 2: {copies}")
    phase.notes.append(f"copies on disk: {_listed(copies)}.")


def short_cut(story: Story) -> None:
    with story.phase(f"the cheap worker's link is cut for {SHORT_S:g} s") as phase:
        story.cheap.cut()
        time.sleep(SHORT_S)
        story.cheap.restore()
        phase.since = "after the link was back"


def spooled_loss(story: Story) -> None:
    with story.phase("PostgreSQL is stopped, the cheap worker is killed, both come back") as phase:
        story.services.stop_postgres()
        time.sleep(SHORT_S)
        waiting = sum(path.read_bytes().count(b"\n") for path in story.cheap.volume.glob("*.jsonl"))
        story.cheap.kill()
        time.sleep(SHORT_S)
        story.services.start_postgres()
        story.cheap.start()
        phase.since = "after the new node was started"
        phase.notes.append(f"{waiting} records waited in the spool of the worker when it was killed.")
        if not waiting:
            story.faults.append("no record waited in the killed worker's spool: the phase shows nothing")


def frontier_loss(story: Story) -> None:
    with story.phase("the frontier worker is killed; another takes its place after 10 s") as phase:
        story.frontier.kill()
        time.sleep(SHORT_S)
        story.frontier.start()
        phase.since = "after the new node was started"


def long_cut(story: Story) -> None:
    with story.phase(f"the frontier worker's link is cut for {LONG_S:g} s: Ray gives the node up") as phase:
        story.frontier.cut()
        time.sleep(LONG_S)
        story.frontier.restore()
        phase.since = "after the link was back"
        for _ in range(60):  # what KubeRay does with a pod whose Ray has ended
            if not story.frontier.lives_still:
                story.frontier.kill()
                story.frontier.start()
                phase.notes.append(
                    "the node's Ray ended when it heard that it had been given up; it was started anew."
                )
                break
            time.sleep(1)


def head_loss(story: Story) -> None:
    with story.phase(f"the head is killed; a new one starts after {HEAD_AWAY_S:g} s and reads Redis") as phase:
        story.cluster.head.kill()
        time.sleep(HEAD_AWAY_S)
        story.cluster.head.start()
        phase.since = "after the new head was started, Serve's controller included"
        until(lambda: _applications(story.cluster), AGAIN_WITHIN_S, "the new head's Serve answers")


def _applications(cluster: Cluster) -> bool:
    try:
        told = cluster.applications()["applications"].values()
        return bool(told) and all(one["status"] == "RUNNING" for one in told)
    except Exception:  # noqa: BLE001 (nothing answers there yet, or something else does)
        return False


def _listed(copies: dict[str, list[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(found)}" for name, found in copies.items())


PHASES: dict[str, Callable[[Story], None]] = {
    "quiet": quiet,
    "promote": promote,
    "short-cut": short_cut,
    "spool": spooled_loss,
    "head": head_loss,
    "frontier": frontier_loss,
    "long-cut": long_cut,
}
