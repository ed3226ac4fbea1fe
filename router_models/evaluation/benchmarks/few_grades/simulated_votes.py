"""What votes are worth beside grades, on recorded outcomes of which some are held out and turned into votes.

    python -m router_models.evaluation.benchmarks.few_grades.simulated_votes FILE --weak A --strong B --votes 2000

Nobody voted: votes are drawn from grades, on two models at random and a prompt that is neither graded nor tested. Of
two answers one of which is right, a voter likes the right one in 8 of 10 cases, sees a tie in 1 and errs in 1; of two
right or two wrong ones half of all voters see a tie, and the others decide by chance. Every prompt is tested once, by
routers that learned from prompts of other folds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats.preference_votes import BOTH_BAD, TIE, A, B, VoteTable
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS, LengthRouter
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.benchmarks.few_grades.command import faults_in_a_line, whole_numbers
from router_models.metrics import Interval, RoutingSums, bootstrap_values, interval_of
from router_models.reports.markdown import table as markdown_table
from router_models.training.labelling.preferences import VotesToLearnFrom, with_votes
from router_models.training.selection.model_selection import choose_router, grouped_folds
from router_models.types import FloatArray, IntArray, Prompts

RIGHT_WINS, RIGHT_TIES, SAME_TIES = 0.8, 0.1, 0.5
TEST_FOLDS, LEAST_VOTED = 5, 100


@dataclass(frozen=True, slots=True)
class VoteSize:
    """Hold a number of grades and of votes: APGR of each way of learning, and differences, all with intervals."""

    grades: int
    votes: int
    areas: dict[str, Interval]
    over_grades: Interval
    over_length: Interval


def simulated_votes(table: OutcomeTable, votes: int, rng: np.random.Generator) -> VoteTable:
    """Draw votes on two random models and a random prompt of a table, from the grades of both (module's text)."""
    grades = np.stack([table.grade(tier) for tier in table.tiers], axis=1)
    rows = rng.integers(len(table), size=votes)
    pairs = np.array([rng.choice(len(table.tiers), 2, replace=False) for _ in range(votes)])
    first, second = grades[rows, pairs[:, 0]], grades[rows, pairs[:, 1]]
    luck, coin = rng.random(votes), rng.random(votes) < 0.5
    winners = []
    for one, other, u, heads in zip(first, second, luck, coin, strict=True):
        if one == other:
            winners.append((BOTH_BAD if one < 0.5 else TIE) if u < SAME_TIES else A if heads else B)
        elif u < RIGHT_TIES:
            winners.append(TIE)
        else:
            winners.append(A if (one > other) == (u < RIGHT_TIES + RIGHT_WINS) else B)
    nobody = ("",) * votes
    left, right = (tuple(table.tiers[i] for i in side) for side in pairs.T)
    embeddings = table.prompts.embeddings
    prompts = Prompts(tuple(table.prompts.texts[i] for i in rows), None if embeddings is None else embeddings[rows])
    return VoteTable(prompts, left, right, tuple(winners), nobody, nobody)


def measure_votes(
    table: OutcomeTable, weak: str, strong: str, grades: int, votes: int, family: str, seed: int
) -> VoteSize:
    """Learn from grades alone, votes alone and both, and compare on prompts that none of them saw.

    Parameters
    ----------
    table : OutcomeTable
        Graded for the two tiers and others, with embeddings.
    weak, strong : str
        The two tiers.
    grades, votes : int
        How many of each a fold learns from.
    family : str
        The router family that learns from grades.
    seed : int
        Of folds, draws and resamples.

    Returns
    -------
    VoteSize

    Raises
    ------
    DataError
        Where a fold has too few prompts for so many grades.
    """
    w, s = table.grade(weak), table.grade(strong)
    scores = {name: np.zeros(len(table)) for name in ("grades alone", "votes alone", "both")}
    for k, (inside, outside) in enumerate(grouped_folds(table.groups, TEST_FOLDS, seed)):
        rng = np.random.default_rng([seed, k])
        drawn = rng.permutation(inside)
        _check_enough(len(drawn), grades)
        train, asked, test = table.take(drawn[:grades]), table.take(drawn[grades:]), table.prompts.take(outside)
        learned = _learned(train, simulated_votes(asked, votes, rng), (weak, strong), family, seed, test)
        for name, found in learned.items():
            scores[name][outside] = _ranks(found)
    scores = {"prompt length": LengthRouter().predict(table.prompts), **scores}
    drawn_areas = {
        name: bootstrap_values(RoutingSums(one, w, s).apgr, len(w), seed=seed, groups=table.groups)
        for name, one in scores.items()
    }
    areas = {name: float(RoutingSums(one, w, s).apgr(np.ones((1, len(w))))[0]) for name, one in scores.items()}

    def over(name: str) -> Interval:
        return interval_of(areas["both"] - areas[name], drawn_areas["both"] - drawn_areas[name])

    return VoteSize(
        grades,
        votes,
        {name: interval_of(areas[name], drawn_areas[name]) for name in scores},
        over("grades alone"),
        over("prompt length"),
    )


def _check_enough(prompts: int, grades: int) -> None:
    if prompts < grades + LEAST_VOTED:
        raise DataError(f"{prompts} prompts of a fold are too few for {grades} grades and votes on others")


def _learned(
    train: OutcomeTable, votes: VoteTable, pair: tuple[str, str], family: str, seed: int, test: Prompts
) -> dict[str, FloatArray]:
    weak, strong = pair
    y, source = train.grade(weak), VotesToLearnFrom(votes)
    _, tried = choose_router(train.prompts, y, train.groups, (family,), seed=seed)
    best = next(one for one in tried if one.family == family)
    alone = RouterWithFallback(ROUTERS[family]()).fit(train.prompts, y).predict(test)
    both = with_votes(best, tried, source, train, weak, strong, seed=seed)
    mixture = alone if both is None else RouterWithFallback(both.router).around(train.prompts, y).predict(test)
    return {
        "grades alone": alone,
        "votes alone": source.fitted(weak, strong, seed).predict(test),
        "both": mixture,
    }


def _ranks(scores: FloatArray) -> FloatArray:
    """Scores of one fold's routers as shares of that fold that lie lower, so that folds can be put together."""
    order: IntArray = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return np.asarray((order + 0.5) / len(scores), dtype=np.float64)


def votes_page(found: Sequence[VoteSize]) -> str:
    """Return the figures as a table."""
    names = list(found[0].areas)
    rows = [["grades", "votes", *names, "both over grades alone", "both over prompt length"]]
    for one in found:
        areas = [
            f"{one.areas[name].value:.3f} ({one.areas[name].low:.3f}–{one.areas[name].high:.3f})" for name in names
        ]
        more = [f"{x.value:+.3f} ({x.low:+.3f} to {x.high:+.3f})" for x in (one.over_grades, one.over_length)]
        rows.append([f"{one.grades:,}", f"{one.votes:,}", *areas, *more])
    return markdown_table(rows)


def print_votes() -> None:
    """Read the outcomes, measure every number of grades with every number of votes, print the table."""
    parser = argparse.ArgumentParser(description="What simulated votes are worth beside grades.")
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--weak", required=True)
    parser.add_argument("--strong", required=True)
    parser.add_argument("--models", default="", help="Models that are voted on, comma-separated; default: all.")
    parser.add_argument("--grades", default="100,300", type=whole_numbers)
    parser.add_argument("--votes", default="2000", type=whole_numbers)
    parser.add_argument("--router", default="linear", choices=tuple(ROUTERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, help="On so many prompts, drawn by the seed; default: all.")
    parser.add_argument("--embeddings", type=Path, help="The prompts' embeddings, .npy, in the file's order.")
    parser.add_argument("--cache", type=Path, default=Path(".serve_graph/embeddings"))
    given = parser.parse_args()
    with faults_in_a_line("simulated_votes"):
        _measure(given)


def _measure(given: argparse.Namespace) -> None:
    table = read_outcomes(given.outcomes)
    models = given.models.split(",") if given.models else table.tiers
    if given.embeddings is not None:
        table = table.with_embeddings(given.embeddings)
    table = table.only(*dict.fromkeys((given.weak, given.strong, *models)))
    if given.prompts is not None:
        table = table.take(np.sort(np.random.default_rng(given.seed).permutation(len(table))[: given.prompts]))
    for inside, _ in grouped_folds(table.groups, TEST_FOLDS, given.seed):  # before prompts are embedded
        _check_enough(len(inside), max(given.grades))

    def progress(said: str) -> None:
        print(said, flush=True)  # noqa: T201

    if given.embeddings is None:
        table = table.with_embeddings(Encoder(), given.cache, progress)
    found = []
    for grades, votes in ((g, v) for g in given.grades for v in given.votes):
        progress(f"{grades} grades, {votes} votes")
        found.append(measure_votes(table, given.weak, given.strong, grades, votes, given.router, given.seed))
    progress(f"{len(table):,} prompts, votes on {len(table.tiers)} models\n\n{votes_page(found)}")


if __name__ == "__main__":
    print_votes()
