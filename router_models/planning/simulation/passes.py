"""How long a batch takes in passes over the data, and what it costs: simulated from rates of engines at full batch.

All rows are routed, the cheap tier answers those that are its, the last tier what is left; calls for signals are
passes of their own. One tier's engines stand at a time, on all GPUs. Pieces of rows are handed to whichever replica is
free; one that fails loads again and does its piece anew.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import DataError

PIECE_ROWS = 256
"""Rows that a replica takes together."""
BATCH_LINES = 50_000
"""Rows of a provider's batch, and the most that a run may have under way there: more are one batch after the other."""
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
        GPUs of a replica; 0 = an API that somebody else runs, all of which is one replica that never fails.
    load_s : float
        Seconds until a replica that is started takes rows.
    input_usd_per_mtok, output_usd_per_mtok : float
        Dollars of a million tokens beside what GPUs cost: what an API takes.
    batch_hours : float
        Hours that a batch of an API's provider takes, of up to `BATCH_LINES` rows; 0 = it is asked row by row.
    """

    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    prompt_tokens: float
    completion_tokens: float
    gpus: int = 1
    load_s: float = 60.0
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    batch_hours: float = 0.0

    @property
    def row_s(self) -> float:
        """Seconds of a replica that a row takes in the mean."""
        return self.prompt_tokens / self.prompt_tokens_per_s + self.completion_tokens / self.completion_tokens_per_s

    @property
    def row_usd(self) -> float:
        """Dollars of a row's tokens in the mean."""
        usd = self.prompt_tokens * self.input_usd_per_mtok + self.completion_tokens * self.output_usd_per_mtok
        return usd / 1e6


@dataclass(frozen=True, slots=True)
class AskedPass:
    """Hold a pass of calls for signals.

    Parameters
    ----------
    signals : tuple of str
        What is asked for.
    asked : str
        Who is asked.
    engine : EngineRate
        What a replica of it does; the tokens are those of all calls about one row.
    before : bool
        Whether every row is asked about before a tier is chosen for it; else answers of the cheap tier are.
    """

    signals: tuple[str, ...]
    asked: str
    engine: EngineRate
    before: bool = False


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
    asked : tuple of AskedPass
        The passes of calls for signals, in their order: those before routing first.
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
    asked: tuple[AskedPass, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Hold one way to answer a batch on so many GPUs: means over seeds, and the least and the most of them.

    `tokens`: those of all answers that are made, and of all calls for signals, by (prompt, completion);
    `signal_tokens`: those of the calls alone.
    """

    way: str
    gpus: int
    hours: float
    hours_low: float
    hours_high: float
    usd: float
    tokens: tuple[float, float]
    signal_tokens: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Pass:
    """`engine`: who is asked; None: nobody, rows are routed. `decided`: the share of all rows that are routed or
    judged while it lasts. `asks`: its calls are for signals.
    """

    engine: EngineRate | None
    rows: int
    decided: float = 0.0
    asks: bool = False


def plan_batch(work: BatchWorkload, gpus: int, seeds: int = SEEDS) -> list[PlannedBatch]:
    """Simulate a batch in passes beside each tier alone.

    Parameters
    ----------
    work : BatchWorkload
        The batch.
    gpus : int
        GPUs that are there, all paid for from the first to the last second, but not while a provider's batch is
        waited for: no engine stands then.
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
    for engine in (work.cheap, work.last, *(one.engine for one in work.asked)):
        if engine.gpus < 0:
            raise DataError(f"a replica has 0 GPUs (an API) or more, not {engine.gpus}")
        if engine.batch_hours and engine.gpus:
            raise DataError(f"a batch of a provider has 0 GPUs, not {engine.gpus}")
        if gpus < engine.gpus:
            raise DataError(f"a replica needs {engine.gpus} GPUs, and there are {gpus}")
    ways = {
        "certified cascade, in passes": _cascade(work),
        "always cheap": [_Pass(work.cheap, work.rows)],
        "always the last tier": [_Pass(work.last, work.rows)],
    }
    return [_planned(work, way, passes, gpus, seeds) for way, passes in ways.items()]


def _cascade(work: BatchWorkload) -> list[_Pass]:
    """The passes in their order: router and verifier work beside the one after which they know enough."""
    tried = round(work.rows * work.tried)
    left = work.rows - round(tried * work.accepted)
    first = [_Pass(one.engine, work.rows, asks=True) for one in work.asked if one.before]
    judged = [_Pass(work.cheap, tried)]
    judged += [_Pass(one.engine, tried, asks=True) for one in work.asked if not one.before]
    routing = first or [_Pass(None, work.rows)]
    routing[-1] = replace(routing[-1], decided=1.0)
    judged[-1] = replace(judged[-1], decided=tried / work.rows)
    return [*routing, *judged, _Pass(work.last, left)]


def _planned(work: BatchWorkload, way: str, passes: Sequence[_Pass], gpus: int, seeds: int) -> PlannedBatch:
    decided_s = work.rows / (work.decided_per_s * work.cores_per_gpu * gpus)
    hours, held_hours = [], []
    for seed in range(seeds):
        draw = np.random.default_rng([seed, gpus])
        seconds = given_back_s = 0.0
        for one in passes:
            took = 0.0
            if one.engine is not None:
                took = pass_seconds(one.engine, one.rows, gpus, work.spread, work.failure_hours, draw)
                given_back_s += took if one.engine.batch_hours else 0.0
            seconds += max(took, one.decided * decided_s)
        hours.append(seconds / 3600)
        held_hours.append((seconds - given_back_s) / 3600)
    mean = math.fsum(hours) / len(hours)
    asked = [(one.rows, one.engine, one.asks) for one in passes if one.engine is not None]
    held = math.fsum(held_hours) / len(held_hours)
    usd = held * gpus * work.usd_per_gpu_hour + math.fsum(rows * engine.row_usd for rows, engine, _ in asked)
    every, calls = (_tokens((rows, engine) for rows, engine, asks in asked if asks or both) for both in (True, False))
    return PlannedBatch(way, gpus, mean, min(hours), max(hours), usd, every, calls)


def _tokens(asked: Iterable[tuple[int, EngineRate]]) -> tuple[float, float]:
    found = list(asked)
    return (
        math.fsum(rows * engine.prompt_tokens for rows, engine in found),
        math.fsum(rows * engine.completion_tokens for rows, engine in found),
    )


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
    if tier.batch_hours:
        return tier.batch_hours * 3600 * math.ceil(rows / BATCH_LINES)
    replicas, failure_hours = (gpus // tier.gpus, failure_hours) if tier.gpus else (1, math.inf)
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
