"""A reviewer's walk through one version, with pictures: `python -m tests.story.walk --out DIR`, or `make walk`.

A first version serves, with models of known quality behind it and a real `mlflow server` as registry. A second one
is certified, and nobody has reviewed it. Its report is read in MLflow, it is compared with the first one, a canary is
refused, it is approved by clicking in MLflow's page, its canary begins and is watched in the console, answers are
labelled there by keys. At last reviews are withdrawn in MLflow, and the running graph notices. Each step holds what it
shows against what had to be there; anything else is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_graph.cli.local.launch import free_port
from tests.story.life import VERSIONS
from tests.story.running import SERVE_GRAPH, StoryError, configuration, process, say
from tests.story.story import ROWS, Story
from tests.story.tables import write_outcomes
from tests.unit.serve_graph.api.console.browser import Browser

MODEL = "serve-graph-router"
PAIRS, MOST = 60, 3000
"""Requests that both versions have decided before the console is looked at, and within how many requests."""
PLOTS = 3


@dataclass
class Walk:
    """The graph, its registry's page, the browser, and where pictures go."""

    story: Story
    mlflow_url: str
    browser: Browser
    out: Path

    def has(self, where: str, *wanted: str, but_not: tuple[str, ...] = ()) -> None:
        """Raise StoryError unless the page says all of it."""
        text = self.browser.text()
        missing, there = [word for word in wanted if word not in text], [word for word in but_not if word in text]
        if missing or there:
            raise StoryError(f"{where} lacks {missing} and has {there}: {text[:3000]}")

    def open_version(self, number: str) -> None:
        """MLflow's page of a version, drawn, without the assistant that it opens beside it."""
        self.browser.show("about:blank", 1280, "light")  # the page draws itself; a change of its hash loads nothing
        self.browser.show(f"{self.mlflow_url}/#/models/{MODEL}/versions/{number}", 1280, "light")
        self.browser.until("document.querySelector('tr[data-row-key=review]') !== null")
        self.browser.value(
            "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')?.click()"
        )
        time.sleep(1)

    def review(self, number: str, said: str, picture: str = "") -> float:
        """Set the tag `review` by clicking in MLflow's page; returns when it was saved."""
        self.open_version(number)
        row = "document.querySelector('tr[data-row-key=review]')"
        button = "[data-testid=editable-table-button-{}]"
        self.browser.value(f"{row}.querySelector('{button.format('edit')}').click()")
        self.browser.until(f"{row}.querySelector('input') !== null")
        self.browser.value(f"{row}.querySelector('input').focus(), {row}.querySelector('input').select()")
        self.browser.ask("Input.insertText", text=said)
        if picture:
            self.browser.value(f"{row}.scrollIntoView({{block: 'center'}})")
            self.browser.picture(self.out / picture)
        self.browser.value(f"{row}.querySelector('{button.format('save')}').click()")
        saved = time.monotonic()
        self.browser.until(f"{row}.querySelector('input') === null && {row}.innerText.includes('{said}')")
        return saved

    def noticed(self, saved: float, what: str, holds: Callable[[], Any]) -> None:
        """Wait until something holds, and say how long that took."""
        while not holds():
            if time.monotonic() > saved + 60:
                raise StoryError(f"{what}: not in a minute; /readyz says {self.story.ready()}")
            time.sleep(0.1)
        say(f"  {what}: {time.monotonic() - saved:.1f} s after it was saved in MLflow's page")

    def read_the_report(self, number: str) -> None:
        """The version's page, and its run's page with the report that has its plots inside."""
        self.open_version(number)
        self.has("MLflow's page", "Router version: cheap → frontier", "on CERT", "Thresholds", "proposed")
        self.browser.picture(self.out / "1-mlflow-version.png")
        asked = {"name": MODEL, "version": number}
        got = httpx.get(f"{self.mlflow_url}/api/2.0/mlflow/model-versions/get", params=asked, timeout=60)
        run = got.raise_for_status().json()["model_version"]["run_id"]
        got = httpx.get(f"{self.mlflow_url}/api/2.0/mlflow/runs/get", params={"run_id": run}, timeout=60)
        experiment = got.raise_for_status().json()["run"]["info"]["experiment_id"]
        page = f"{self.mlflow_url}/#/experiments/{experiment}/runs/{run}/artifacts/report.html"
        self.browser.show("about:blank", 1280, "light")
        self.browser.show(page, 1280, "light")
        self.browser.until("document.querySelector('iframe') !== null")
        self.browser.value(
            "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')?.click()"
        )
        time.sleep(3)
        self.has("the run's page", "report.html")
        self.browser.picture(self.out / "2-mlflow-run.png")
        got = httpx.get(f"{self.mlflow_url}/get-artifact", params={"path": "report.html", "run_uuid": run}, timeout=60)
        report = self.out / "2-report.html"
        report.write_text(got.raise_for_status().text)
        self.browser.show(report.as_uri(), 1280, "light")
        plots = self.browser.value("[...document.images].filter(one => one.complete && one.naturalWidth).length")
        if plots != PLOTS:
            raise StoryError(f"the report draws {plots} plots")
        self.browser.value("document.images[0].scrollIntoView()")
        self.browser.picture(self.out / "2-report-plots.png")
        say(f"  the report is the version's description; with its {plots} plots it is the run's artifact")

    def compare(self, number: str) -> None:
        """What changes against the version that serves, on questions that neither knows."""
        table = write_outcomes(self.story.folder / "fresh.parquet", ROWS // 4, 9)
        said = self.story.run("versions", "diff", "stable", number, "--outcomes", str(table))
        (self.out / "3-diff.txt").write_text(said)
        if missing := [
            word for word in ("right ", "cost ", "flips:", "slice", "frontier → cheap") if word not in said
        ]:
            raise StoryError(f"the comparison lacks {missing}: {said}")
        say("  compared: " + next(line for line in said.splitlines() if "cost " in line).strip())

    def refused(self, number: str) -> None:
        """A version that nobody has approved is tried by nobody."""
        try:
            self.begin_canary(number)
        except StoryError as error:
            if "approve" not in str(error):
                raise
            say(f"  before the approval: {str(error).rpartition('serve-graph: ')[2].strip()}")
        else:
            raise StoryError("a version that nobody has approved became a canary")
        if "rollout" in self.story.ready():
            raise StoryError("the graph tries a version that nobody has approved")

    def begin_canary(self, number: str) -> None:
        """Half of the traffic, until the walk is over."""
        self.story.run(
            "versions", "canary", number, "--steps", "50,100", "--pause", "30m", "--minimum", "1000", "--rate", "1",
            "--reason", "read the report and the comparison",
        )  # fmt: skip

    def approve(self, number: str) -> None:
        """Approve in MLflow's page; the canary that was refused begins."""
        saved = self.review(number, "approved", "4-mlflow-approving.png")
        listed = json.loads(self.story.run("versions", "list", "--json"))
        (state,) = (one["review"]["state"] for one in listed if one["version"] == f"{MODEL}/{number}")
        if state != "approved":
            raise StoryError(f"versions list calls the version {state}")
        self.begin_canary(number)
        self.noticed(
            saved, "approved, its canary asked for and on in /readyz", lambda: "rollout" in self.story.ready()
        )

    async def watch(self) -> None:
        """The console while the canary runs: every test beside its limit, on a desk and on a phone."""

        def compared() -> bool:
            return bool(self.story.rollout()["evidence"].get("pairs", 0) >= PAIRS)

        took = await self.story.traffic(compared, MOST)
        state = self.story.rollout()["state"]
        if state != "Progressing":
            raise StoryError(f"the canary is {state}")
        say(f"  {state} after {took} requests")
        for width in (1280, 390):
            self.browser.show(f"{self.story.graph_url}/console/signals", width, "light")
            self.has("the console", "is tried beside", "of the traffic, step 1 of 2", "Limit")
            tests = self.browser.value("document.querySelectorAll('#rollouts ~ .scroll tbody tr').length")
            if tests < 5:
                raise StoryError(f"the console shows {tests} tests of the canary")
            if not self.browser.value("document.documentElement.scrollWidth <= innerWidth"):
                raise StoryError(f"the console is wider than {width} px")
            self.browser.picture(self.out / f"5-console-canary-{width}.png")

    def label(self) -> None:
        """Two answers labelled by keys, blind to the tier that gave them."""
        self.browser.show(f"{self.story.graph_url}/console/labels?labeller=anna", 1280, "light")
        self.has(
            "the labelling page",
            "Label answers",
            "Prompt",
            "Answer",
            "labelled by anna",
            but_not=("cheap", "frontier"),
        )
        self.browser.picture(self.out / "6-console-labels.png")
        shown = set()
        for _ in range(2):
            shown.add(self.browser.value("document.querySelector('input[name=decision]').value"))
            self.browser.until_loaded("Input.dispatchKeyEvent", type="keyDown", key="r", text="r")
        pages = [f"{self.story.graph_url}/console/decisions/{one}" for one in shown]
        until = time.monotonic() + 30
        while not all("anna" in httpx.get(page, timeout=60).raise_for_status().text for page in pages):
            if time.monotonic() > until:
                raise StoryError(f"the labels are not on {pages}")
            time.sleep(0.5)
        if len(shown) != 2:
            raise StoryError(f"after a label the same answer is shown: {shown}")
        say("  two answers labelled by keys")

    def withdraw(self, number: str) -> None:
        """Reviews withdrawn and given in MLflow's page alone, which the running graph notices by itself."""
        saved = self.review(number, "rejected")
        self.noticed(saved, "the candidate rejected, its canary over", lambda: "rollout" not in self.story.ready())
        ended = self.story.rollout()
        if ended["state"] not in ("Aborted", "Degraded") or "rejected" not in ended["reason"]:
            raise StoryError(f"a rejected candidate's rollout is {ended['state']}: {ended['reason']}")
        say(f"  {ended['state']}: {ended['reason']}")
        saved = self.review("1", "rejected")
        self.noticed(
            saved, "the serving version rejected, nothing promised", lambda: not self.story.ready()["certified"]
        )
        saved = self.review("1", "approved")
        self.noticed(saved, "approved again, its promise back", lambda: self.story.ready()["certified"])


async def walked(walk: Walk, number: str) -> None:
    """Every step in order; raises StoryError where one shows something else than it has to."""
    say("the candidate's report in MLflow")
    walk.read_the_report(number)
    walk.compare(number)
    walk.refused(number)
    say("its approval in MLflow")
    walk.approve(number)
    say("its canary in the console")
    await walk.watch()
    walk.label()
    say("reviews withdrawn in MLflow")
    walk.withdraw(number)


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the walk."""
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()


def registry(folder: Path, port: int) -> list[str]:
    """The command of a real `mlflow server` that keeps everything in a folder."""
    store = f"sqlite:///{folder / 'registry.db'}"
    kept = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    server = [sys.executable, "-m", "mlflow", "server", *kept, "--host", "127.0.0.1", "--port", str(port)]
    return ["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", *server]


def begin(out: Path, folder: Path) -> None:
    """Take the walk on a graph of its own; a kept folder goes on with its versions."""
    kept = folder / "ports.json"  # certificates are bound to where the models are
    ports = json.loads(kept.read_text()) if kept.exists() else [free_port() for _ in range(3)]
    kept.write_text(json.dumps(ports))
    world, mlflow, graph = (f"http://127.0.0.1:{port}" for port in ports)
    config = configuration(folder, world, ports[2])
    more = {"tracking_uri": mlflow, "records": {"keep_prompts": True}}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | more, sort_keys=False))
    story = Story(folder, world, graph, config)
    models = [sys.executable, "-m", "tests.story.world", str(ports[0])]
    with process(registry(folder, ports[1]), f"{mlflow}/health", folder / "mlflow.log", 120):
        say("MLflow answers")
        story.version("first", VERSIONS["first"], first=True)
        numbers = json.loads((folder / "versions.json").read_text())
        number = numbers.get("proposed") or story.proposed("better", VERSIONS["better"])
        (folder / "versions.json").write_text(json.dumps(numbers | {"proposed": number}))
        for version, state in (("1", "approved"), (number, "proposed")):  # as it was before a walk that was kept
            tag = {"name": MODEL, "version": version, "key": "review", "value": state}
            httpx.post(f"{mlflow}/api/2.0/mlflow/model-versions/set-tag", json=tag, timeout=60).raise_for_status()
        say(f"version {number} is certified, and nobody has reviewed it")
        with (
            process(models, f"{world}/docs", folder / "world.log", 60),
            process([SERVE_GRAPH, "up", "--config", str(config)], f"{graph}/readyz", folder / "graph.log", 240),
            browsing(folder / "profile") as browser,
        ):
            say(f"the graph serves: {story.ready()['promise']}")
            asyncio.run(walked(Walk(story, mlflow, browser, out), number))
    say(f"the end; replies by status: {dict(story.asked)}")


def main() -> None:
    """Take the walk; exit 1 where a step shows something else than it has to."""
    reads = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reads.add_argument("--out", type=Path, required=True, help="a folder for the pictures and the comparison")
    reads.add_argument("--keep", type=Path, help="a folder for the state, which is kept")
    chosen = reads.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="walk-"))
    for made in (chosen.out, folder):
        made.mkdir(parents=True, exist_ok=True)
    try:
        begin(chosen.out.resolve(), folder.resolve())
    except (StoryError, TimeoutError) as error:
        say(f"FAILED: {error}")
        say(f"logs and state: {folder}")
        sys.exit(1)
    if chosen.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
