"""How many requests a chapter needs, by the same tests on the same models: found before the graph is asked.

Both versions are replayed on fresh questions of the world. Requests are drawn from these by chance, over and over, and
the tests that a graph makes are made of each draw: what most draws end in has to come, within what they needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from router_models.data.features import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.monitoring.canary import ArmOutcome, CanaryEvidence, CanaryLimits, PairedRequest
from router_models.training.evidence import evidence_of, replay_version
from router_models.types import FloatArray
from serve_graph.cli.versions.found import found_version, loaded_version
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_prices
from tests.story.tables import write_outcomes
from tests.story.world import language_of

RUNS, QUESTIONS, MOST = 30, 1500, 4000
Weights = Sequence[tuple[int, float]]
"""From how many requests on the candidate answers which share of them."""


@dataclass(frozen=True)
class Question:
    """One question as both versions answer it: the pair, and how long each version's answer takes."""

    pair: PairedRequest
    stable_s: float
    candidate_s: float


@dataclass(frozen=True)
class Expected:
    """What most of the draws end in, how many of all, and after how many requests that both versions decided."""

    verdict: str
    agree: int
    draws: int
    median: int
    most: int
    against: str
    steps: int
    late: int = 1000

    @property
    def bound(self) -> int:
        """Within how many requests the graph has to come to it. Some are not compared, and pairs count when all that
        came with them have been: each step waits for its own, while `late` others are answered at most (twenty
        seconds, and a thousand, of models that answer at once).
        """
        return 2 * self.most + self.late * self.steps

    def line(self) -> str:
        """As a sentence."""
        why = f" by {self.against}" if self.against else ""
        return (
            f"expected: {self.verdict}{why} in {self.agree} of {self.draws} draws, after {self.median} requests that "
            f"both decide (median; {self.most} at most): within {self.bound} requests"
        )


def fresh_questions(config: Path, folder: Path) -> OutcomeTable:
    """Questions that no version was made of, with what is true of both tiers' answers."""
    graph, path = load_config(config), folder / "fresh.parquet"
    if not path.exists():
        write_outcomes(path, QUESTIONS, 9)
    return read_outcomes(path, graph.tier_names).with_embeddings(Encoder(), graph.state_folder / "embeddings")


def decided(
    config: Path,
    table: OutcomeTable,
    names: tuple[str, str],
    takes_s: Mapping[str, float | FloatArray],
    sliced: Callable[[str], str] = language_of,
) -> list[Question]:
    """The questions as two registered versions, stable and candidate, answer them; each prompt is in one slice."""
    graph = load_config(config)
    prices, tiers = tier_prices(graph, datetime.now(UTC)), graph.tier_names
    seen = [evidence_of(loaded_version(*found_version(name, config)), table, prices) for name in names]
    played = [
        replay_version(loaded_version(*found_version(name, config)), one)
        for name, one in zip(names, seen, strict=True)
    ]
    right = seen[0].grades >= 0.5
    rights, harms = ([getattr(one, what)(right) for one in played] for what in ("right", "harmed"))
    each = np.column_stack([np.broadcast_to(takes_s[tier], len(table)) for tier in tiers])
    seconds = [each[np.arange(len(table)), one.tried] + one.escalated * each[:, -1] for one in played]
    same = np.all([getattr(played[0], what) == getattr(played[1], what) for what in ("answered_by", "tried")], axis=0)
    return [
        Question(
            PairedRequest(
                bool(same[i]),
                float(rights[0][i]),
                float(rights[1][i]),
                bool(harms[0][i]),
                bool(harms[1][i]),
                float(played[0].cost_usd[i]),
                float(played[1].cost_usd[i]),
                slices=(sliced(prompt),),
                last_usd=float(seen[0].cost_usd[i, -1]),
            ),
            float(seconds[0][i]),
            float(seconds[1][i]),
        )
        for i, prompt in enumerate(table.prompts.texts)
    ]


def expect(
    asked: Sequence[Question],
    limits: CanaryLimits,
    weights: Weights,
    least: int = 0,
    draws: int = RUNS,
    paired: bool = True,
) -> Expected:
    """What most draws of requests come to, by the tests of pairs (where any are made) and of arms.

    None is promoted before `least`.
    """
    ends, after, why = Counter[str](), dict[str, list[int]](), dict[str, Counter[str]]()
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        drawn = [asked[i] for i in rng.integers(0, len(asked), MOST)]
        share = np.zeros(MOST)
        for start, weight in weights:
            share[start:] = weight
        arms = rng.random(MOST) < share
        pairs = [question.pair for question in drawn if paired]
        units = [
            ArmOutcome("candidate" if c else "stable", float(w), False, q.candidate_s if c else q.stable_s, 0.0)
            for q, c, w in zip(drawn, arms, share, strict=True)
        ]
        n, end = _ended(pairs, units, limits, least)
        ends[end.verdict] += 1
        after.setdefault(end.verdict, []).append(n)
        failed = [f"{f.name} ({f.scope})" for f in end.findings if f.reached and f.effect == "roll_back"]
        why.setdefault(end.verdict, Counter()).update(failed)
    verdict, agree = ends.most_common(1)[0]
    against = " or ".join(f"{name} ({n})" for name, n in why[verdict].most_common(2))
    return Expected(verdict, agree, draws, int(np.median(after[verdict])), max(after[verdict]), against, len(weights))


def _ended(
    pairs: Sequence[PairedRequest], units: Sequence[ArmOutcome], limits: CanaryLimits, least: int
) -> tuple[int, CanaryEvidence]:
    """After how many requests the evidence moves the rollout, and what it says then; what it has said stays said."""

    def at(n: int) -> tuple[bool, CanaryEvidence]:
        found = CanaryEvidence.of(pairs[:n], units[:n], limits)
        return found.verdict == "roll_back" or (found.verdict == "promote" and n >= least), found

    low, high = 0, 250
    while not (ended := at(high))[0] and high < MOST:
        low, high = high, min(2 * high, MOST)
    while ended[0] and high - low > 5:
        middle = (low + high) // 2
        if (seen := at(middle))[0]:
            high, ended = middle, seen
        else:
            low = middle
    return high, ended[1]
