"""Runs in passes whose workers and drivers are killed: no row is lost, or paid twice beyond what was in flight."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import CombinedVerifier
from router_models.types import Answers, OperatingPoint, Prompts
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli.batch.journal import Journal
from serve_graph.cluster.batches.passes.ray_passes import TASKS_AT_ONCE
from tests.cluster.load.counted_passes import PIECE_ROWS

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]
ROWS, KILLS = 480, 10
LONG = " many words" * 300
IN_FLIGHT_PIECES = 2 * TASKS_AT_ONCE
"""The most that may lie between the beginning of a row and the journal: `RayPasses.purse`."""
WITHOUT_TOKEN = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "120"}
COMMAND = (sys.executable, "-m", "tests.cluster.load.counted_passes")


def by_logprobs(sure: float = -0.01, unsure: float = -3.0) -> CombinedVerifier:
    """A verifier that takes an answer of small logprobs for a wrong one."""
    right = np.array([1.0, 0.0] * 50)
    summaries = [logprob_summary([sure if ok else unsure] * 5) for ok in right]
    told = {name: np.array([one[name] for one in summaries]) for name in LOGPROB_NAMES}
    answers = Answers(Prompts(tuple(f"question {n}" for n in range(100))), ("a",) * 100, ("stop",) * 100, told)
    return CombinedVerifier(sources=("logprob",)).fit(answers, right)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset and a graph of echo tiers: a third of the rows goes to the last tier at once, a half is sent on."""
    tiers = [
        {"name": name, "engine": "echo", "latency_s": 0.15, "skill": skill,
         "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd}}
        for name, usd, skill in (("cheap", 1, 0.5), ("frontier", 10, 1.0))
    ]  # fmt: skip
    config = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "policy": {"version": "builtin"}}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(config))
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, by_logprobs(), None)})
    version.save(tmp_path / "state" / "builtin" / "builtin-uncertified")
    rows = [{"n": n, "prompt": f"question {n}" + (LONG if n % 3 == 0 else "")} for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def cluster(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Ray cluster that outlives drivers; its address and its first process."""
    env = os.environ | WITHOUT_TOKEN | {"PAID_LOG": str(folder / "paid.log")}  # workers have their cluster's
    process = subprocess.Popen(
        (*COMMAND, "head"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = next(line.strip() for line in process.stdout if ":" in line)
        yield address, psutil.Process(process.pid)
    finally:
        process.stdin.close()
        process.wait(120)
        process.stdout.close()


def begun(folder: Path, *more: str, **env: str) -> subprocess.Popen[bytes]:
    with (folder / "driver.log").open("ab") as log:
        every = os.environ | WITHOUT_TOKEN | env
        return subprocess.Popen((*COMMAND, str(folder), *more), env=every, stdout=log, stderr=log)


def paid(folder: Path) -> Counter[str]:
    log = folder / "paid.log"
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes], every_s: float = 0.05) -> bool:
    """Wait until something holds; False where the process ends before."""
    while not holds():
        if process.poll() is not None:
            return False
        time.sleep(every_s)
    return True


def workers(head: psutil.Process) -> list[psutil.Process]:
    """The processes of a pass: readers, tiers, judges, and what holds a budget."""
    found = []
    for one in head.children(recursive=True):
        try:
            title = " ".join(one.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and any(word in title for word in ("Map", "Read", "HeldPurse")):
            found.append(one)
    return found


def kill_one(head: psutil.Process, draw: random.Random, process: subprocess.Popen[bytes]) -> str:
    """Kill one of the processes of a pass; returns what it called itself."""
    while process.poll() is None:
        if found := workers(head):
            chosen = draw.choice(found)
            with suppress(psutil.Error):  # it has ended meanwhile: another one
                name = " ".join(chosen.cmdline()).strip()
                chosen.kill()
                return name
        time.sleep(0.05)
    return "none: the run had ended"


def check_whole(folder: Path, in_flight: int) -> dict[str, Any]:
    """Every row is answered once in the result, what was paid is as said, and the summary's sums are the rows'."""
    told: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [row["n"] for row in rows] == list(range(ROWS))
    assert [row for row in rows if row["serve_graph_status"] != "200"] == []
    assert all(
        row["answer"] == f"echo {row['serve_graph_tier']}: {row['prompt']}"[: len(row["answer"])] for row in rows
    )
    assert (told["answered"], told["failed"], told["left"]) == (ROWS, 0, 0)
    costs = [Decimal(row["serve_graph_cost_usd"]) for row in rows]
    assert sum(costs) == Decimal(told["total_usd"])
    tokens = sum(row["serve_graph_prompt_tokens"] + row["serve_graph_completion_tokens"] for row in rows)
    assert tokens == told["tokens"]
    shown = Counter(row["serve_graph_tier"] for row in rows)
    assert {tier: share["count"] for tier, share in told["tiers"].items()} == dict(shown)
    asked, outcomes = paid(folder), Counter(row["serve_graph_outcome"] for row in rows)
    once = Counter(line.split()[0] for line in asked)
    assert once["cheap"] == outcomes["accepted"] + outcomes["escalated"]
    assert once["frontier"] == outcomes["routed"] + outcomes["escalated"]
    assert outcomes["escalated"] > 20
    assert outcomes["accepted"] > 20
    twice = sum(asked.values()) - len(asked)
    assert twice <= in_flight
    assert not list(folder.glob(".*passes-*")), "nothing is left of runs that were killed"
    return told | {"twice": twice}


def test_workers_and_drivers_are_killed_ten_times(folder: Path, cluster: tuple[str, psutil.Process]) -> None:
    address, head = cluster
    draw, killed = random.Random(int(os.environ.get("KILL_SEED", "7"))), list[str]()
    process = begun(folder, RAY_ADDRESS=address)
    victims = ["driver"] * (KILLS // 2) + ["worker"] * (KILLS // 2)
    draw.shuffle(victims)
    for victim in victims:
        before = sum(paid(folder).values())
        if not until(lambda seen=before: sum(paid(folder).values()) > seen, process):  # type: ignore[misc]
            break
        time.sleep(draw.uniform(0.0, 1.5))
        if victim == "worker":
            name = kill_one(head, draw, process)
        else:
            process.kill()
            process.wait(60)
            name = "driver"
            process = begun(folder, RAY_ADDRESS=address)
        killed.append(f"{name} after {sum(paid(folder).values())} answers")
    assert process.wait(1800) == 0, (folder / "driver.log").read_text()[-4000:]
    told = check_whole(folder, KILLS * IN_FLIGHT_PIECES * PIECE_ROWS)
    print(f"{len(killed)} kills: {told['twice']} answers paid twice", *killed, sep="\n  ")
    assert len(killed) == KILLS


@pytest.mark.parametrize("stage", ["routing", "passes", "writing", "summary", "audit"])
def test_a_driver_is_killed_at_every_stage(folder: Path, stage: str) -> None:
    """In one process, which is killed four times at that stage."""
    out, part = folder / "out.jsonl", folder / ".out.jsonl.part"
    draw = random.Random(3)
    shown = {
        "routing": lambda: any(folder.glob(".*passes-*")),
        "passes": lambda: sum(paid(folder).values()) > seen,
        "writing": part.exists,
        "summary": out.exists,
        "audit": (folder / "out.jsonl.audit.jsonl").exists,
    }[stage]
    for _ in range(4):
        seen = sum(paid(folder).values())
        for path in (out, folder / "out.jsonl.audit.jsonl"):
            path.unlink(missing_ok=True)
        process = begun(folder, "--audit", "20")
        if until(shown, process, 0.0005):
            time.sleep(draw.uniform(0.0, 0.3 if stage in ("routing", "passes") else 0.02))
        process.kill()
        process.wait(60)
        journal = Journal(folder / "out.jsonl.journal")  # whose file is sound
        assert journal.totals().failed == 0
        journal.close()
    assert begun(folder, "--audit", "20").wait(600) == 0, (folder / "driver.log").read_text()[-4000:]
    told = check_whole(folder, 4 * PIECE_ROWS)
    assert told["audited"] == 20
