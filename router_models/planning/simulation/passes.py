"""How long a batch takes in passes over the data, and what it costs: simulated from rates of engines at full batch.

All rows are routed, the cheap tier answers those that are its, the last tier what is left. One tier's engines stand at
a time, on all GPUs. Pieces of rows are handed to whichever replica is free; one that fails loads again and does its
piece anew.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_models.errors import DataError

PIECE_ROWS = 256
"""Rows that a replica takes together."""
SEEDS = 10


@dataclass(frozen=True, slots=True)
class EngineRate:
    """Hold what one replica of a tier does at full batch size.

    Parameters
    ----------
    prompt_tokens_per_s, completion_tokens_per_s : float
        Tokens a second when it does nothing but read, and nothing but write.
    prompt_tokens, completion_tokens : float
        Mean tokens of a row.
    gpus : int
        GPUs of a replica.
    load_s : float
        Seconds until a replica that is started takes rows.
    """

    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    prompt_tokens: float
    completion_tokens: float
    gpus: int = 1
    load_s: float = 60.0

    @property
    def row_s(self) -> float:
        """Seconds of a replica that a row takes in the mean."""
        return self.prompt_tokens / self.prompt_tokens_per_s + self.completion_tokens / self.completion_tokens_per_s


@dataclass(frozen=True, slots=True)
class BatchWorkload:
    """Hold a batch and what becomes of its rows.

    Parameters
    ----------
    rows : int
        How many.
    cheap, last : EngineRate
        The two tiers.
    tried : float
        Share of rows that the router sends to the cheap tier.
    accepted : float
        Share of these whose answer the verifier accepts.
    decided_per_s : float
        Rows that one processor core routes a second; as many it judges.
    cores_per_gpu : float
        Processor cores beside each GPU.
    spread : float
        Standard deviation of a row's time over its mean.
    usd_per_gpu_hour : float
        Price of a GPU, its cores included, whether it works or loads.
    failure_hours : float
        Mean hours between failures of a replica.
    """

    rows: int
    cheap: EngineRate
    last: EngineRate
    tried: float
    accepted: float
    decided_per_s: float
    cores_per_gpu: float = 8.0
    spread: float = 1.0
    usd_per_gpu_hour: float = 0.0
    failure_hours: float = math.inf


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Hold one way to answer a batch on so many GPUs: means over seeds, and the least and the most of them.

    `tokens`: those of all answers that are made, by (prompt, completion).
    """

    way: str
    gpus: int
    hours: float
    hours_low: float
    hours_high: float
    usd: float
    tokens: tuple[float, float]


def plan_batch(work: BatchWorkload, gpus: int, seeds: int = SEEDS) -> list[PlannedBatch]:
    """Simulate a batch in passes beside each tier alone.

    Parameters
    ----------
    work : BatchWorkload
        The batch.
    gpus : int
        GPUs that are there, all paid for from the first to the last second.
    seeds : int
        Simulations of each way.

    Returns
    -------
    list of PlannedBatch
        `certified cascade, in passes`, `always cheap`, `always the last tier`.

    Raises
    ------
    DataError
        A share is none, or there are fewer GPUs than a replica needs.
    """
    for name, share in (("tried", work.tried), ("accepted", work.accepted)):
        if not 0.0 <= share <= 1.0:
            raise DataError(f"{name} is a share from 0 to 1, not {share}")
    for tier in (work.cheap, work.last):
        if gpus < tier.gpus:
            raise DataError(f"a replica needs {tier.gpus} GPUs, and there are {gpus}")
    tried = round(work.rows * work.tried)
    left = work.rows - round(tried * work.accepted)
    ways = {
        "certified cascade, in passes": ((work.cheap, tried, True), (work.last, left, False)),
        "always cheap": ((work.cheap, work.rows, False),),
        "always the last tier": ((work.last, work.rows, False),),
    }
    decided_s = work.rows / (work.decided_per_s * work.cores_per_gpu * gpus)
    found = []
    for way, passes in ways.items():
        hours = []
        for seed in range(seeds):
            draw = np.random.default_rng([seed, gpus])
            seconds = decided_s if len(passes) > 1 else 0.0
            for tier, rows, is_judged in passes:
                took = pass_seconds(tier, rows, gpus, work.spread, work.failure_hours, draw)
                seconds += max(took, rows / work.rows * decided_s) if is_judged else took
            hours.append(seconds / 3600)
        mean = math.fsum(hours) / len(hours)
        tokens = (
            math.fsum(rows * tier.prompt_tokens for tier, rows, _ in passes),
            math.fsum(rows * tier.completion_tokens for tier, rows, _ in passes),
        )
        usd = mean * gpus * work.usd_per_gpu_hour
        found.append(PlannedBatch(way, gpus, mean, min(hours), max(hours), usd, tokens))
    return found


def pass_seconds(
    tier: EngineRate, rows: int, gpus: int, spread: float, failure_hours: float, draw: np.random.Generator
) -> float:
    """Simulate one pass: seconds from the start of the first engine to the last row.

    Parameters
    ----------
    tier : EngineRate
        Whose replicas answer.
    rows, gpus : int
        How many of each.
    spread : float
        Standard deviation of a row's time over its mean.
    failure_hours : float
        Mean hours between failures of a replica; infinite = it never fails.
    draw : numpy.random.Generator
        The source of chance.

    Returns
    -------
    float
        0 where there are no rows.
    """
    if rows == 0:
        return 0.0
    replicas = gpus // tier.gpus
    free = [tier.load_s] * replicas
    ends = tier.load_s
    for seconds in _pieces(tier.row_s, rows, spread, draw):
        at = heapq.heappop(free)
        while math.isfinite(failure_hours) and (fails := draw.exponential(failure_hours * 3600)) < seconds:
            at += float(fails) + tier.load_s
        heapq.heappush(free, at + seconds)
        ends = max(ends, at + seconds)
    return ends


def _pieces(row_s: float, rows: int, spread: float, draw: np.random.Generator) -> Sequence[float]:
    """Seconds of a replica that each piece of rows takes; a gamma's sum over a piece is a gamma."""
    counts = np.full(-(-rows // PIECE_ROWS), PIECE_ROWS)
    counts[-1] = rows - PIECE_ROWS * (len(counts) - 1)
    if spread == 0:
        return [float(row_s * count) for count in counts]
    shape = counts / spread**2
    return [float(x) for x in draw.gamma(shape, row_s * spread**2)]
