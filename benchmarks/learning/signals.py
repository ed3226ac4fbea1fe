"""Which signal buys what: what is asked about a cheap answer, on a table that `collect --signals` wrote.

    python -m benchmarks.learning.signals --outcomes TABLE [--last TABLE] [--records DECISIONS.db] [--page FILE]

For every signal: how well it alone tells right answers from wrong ones, and what it adds to the verifier that reads
what answers bring for nothing, both out of fold; the share of answers that is then certified, over splits of the rows
into those that place thresholds and those that certify; and, by the records of the run, dollars and seconds.
`--last`: a table with the last tier's answers to the same prompts, where the first has none.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import NotCertifiedError
from router_models.estimators.asked_signals import asked_among, asked_signal
from router_models.estimators.questions.terms import AskedTier
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.cascade_data import (
    COMBINED,
    CascadeData,
    Contender,
    cascade_data,
    contenders,
    cross_validate_cascade,
)
from router_models.metrics import auc_weighted, bootstrap, bootstrap_values, interval_of
from router_models.metrics.intervals import Interval
from router_models.reports.markdown import spread, table
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from router_models.types import FloatArray

LOWER_IS_BETTER = frozenset({"first_token_entropy"})
SPLITS = 200
BILLED = """\
- *Dollars, seconds*: of the calls in the run's records, at the configured prices; seconds are of a machine that did
  other things too, with the collection's concurrency."""
UNBILLED = "- Without the run's records (`--records`) dollars and seconds are left out."
HOW_TO_READ = """\
- *AUC alone*: the signal as it comes, P(a right answer has the better value); nothing is fitted.
- *AUC of the verifier*: `combined` with the signal beside what answers bring for nothing (logprobs, words, the
  prompt's embedding, the estimate of the router {router}), out of fold (5 folds, grouped by duplicates). *Gain*: over
  the first row, paired. Intervals are 95 %, bootstrap over prompts.
- *Certified*: the mean over {splits} random splits (a third places the threshold, the rest certifies) of the share
  that is accepted under P(harm | accepted) ≤ {epsilon:g} with confidence {sure:g}; in brackets the percentage of
  splits without a certificate; then the difference to the first row. Splits share their rows: this is no interval for
  other prompts.
{bills}"""


def joined(outcomes: Path, last: Path | None, cheap: str, dear: str) -> OutcomeTable:
    """The prompts that both tiers answered; the last tier's rows from a table of their own, where one is given."""
    frame = pd.read_parquet(outcomes)
    if last is not None:
        other = pd.read_parquet(last)
        frame = pd.concat([frame[frame.tier == cheap], other[other.tier == dear]], ignore_index=True)
        both = set(frame[frame.tier == cheap].prompt_id) & set(frame[frame.tier == dear].prompt_id)
        frame = frame[frame.prompt_id.isin(both)]
    return table_of(parse_columns(frame, (cheap, dear))).only(cheap, dear)


def certified_shares(scores: FloatArray, wrong: FloatArray, epsilon: float, delta: float, seed: int) -> FloatArray:
    """The share of CERT's answers that are accepted under a certificate, 0 where there is none, for each split."""
    rng, found, now = np.random.default_rng(seed), np.zeros(SPLITS), datetime.now(UTC)
    terms = CertificateTerms(epsilon, delta, "programmatic", now, now + timedelta(days=1), look_index=0)
    for i in range(SPLITS):
        order = rng.permutation(len(scores))
        tune, cert = (Labelled.of(scores[part], wrong[part]) for part in np.split(order, [len(order) // 3]))
        try:
            made = certify_threshold(tune, cert, terms)
        except NotCertifiedError:
            continue
        found[i] = made.accepted_n / made.n
    return found


def billed(records: Path, cheap: str) -> dict[str, tuple[float, float, float]]:
    """Signal → dollars an answer, median seconds and 90 % quantile of seconds of its calls, by a run's records."""
    usd: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    with sqlite3.connect(f"file:{records}?mode=ro", uri=True) as store:
        for (beside,) in store.execute("SELECT overhead FROM decisions WHERE tier = ? AND status = 200", (cheap,)):
            mine: dict[str, float] = defaultdict(float)
            for line in json.loads(beside or "[]"):
                if asked_among([line["what"]]):
                    mine[line["what"]] += float(line["cost_usd"])
                    seconds[line["what"]].append(float(line["latency_s"]))
            for name, cost in mine.items():
                usd[name].append(cost)
    return {
        name: (float(np.mean(usd[name])), float(np.median(seconds[name])), float(np.quantile(seconds[name], 0.9)))
        for name in usd
    }


def with_only(signal: str | None, data: CascadeData, every: Mapping[str, FloatArray]) -> CascadeData:
    """The answers with what they bring for nothing, and one signal (all: the empty name; none: None) beside it."""
    more = {} if signal is None else every if signal == "" else {signal: every[signal]}
    return replace(data, answers=replace(data.answers, signals={**data.answers.signals, **more}))


def rows_of(
    found: OutcomeTable, cheap: str, dear: str, router: str, epsilon: float, delta: float, seed: int,
    bills: Mapping[str, tuple[float, float, float]], say: Callable[[str], None],
) -> list[list[str]]:  # fmt: skip
    """The table's rows: without any signal, with each, with all."""
    data = cascade_data(found, cheap, dear)
    columns = found.answers_of(cheap).signals
    every = {name: columns[name] for name in asked_among(columns) if np.isfinite(columns[name]).mean() > 0.5}
    if data.answers.prompts.embeddings is None:
        data = replace(data, answers=replace(data.answers, prompts=found.prompts))

    def make() -> RouterWithFallback:
        return RouterWithFallback(ROUTERS[router]())

    combined: Contender = contenders(make, seed)[COMBINED]
    harm = ((data.cheap < 0.5) & (data.dear >= 0.5)).astype(np.float64)
    draws: dict[str, FloatArray] = {}
    lines, base_shares = [], np.zeros(SPLITS)
    for name in (None, *every, ""):
        say(name or ("nothing asked" if name is None else "all of them"))
        one = with_only(name, data, every)
        scores = cross_validate_cascade(one, {COMBINED: combined}, 5, seed)
        order, p = scores.ordered(COMBINED), scores.by_name[COMBINED]
        statistic = auc_weighted(order, data.cheap)
        values = bootstrap_values(statistic, len(data), draws=2000, seed=seed, groups=data.groups)
        value = float(statistic(np.ones((1, len(data))))[0])
        draws[str(name)] = values
        if name is None:
            base, base_shares = value, certified_shares(p, harm, epsilon, delta, seed)
            gain, shares = "–", base_shares
        else:
            gain = spread(interval_of(value - base, values - draws["None"]), 1.0, 3)
            shares = certified_shares(p, harm, epsilon, delta, seed)
        lines.append(
            [
                name or ("nothing asked" if name is None else "all of them"),
                _who(name, cheap, dear),
                "–" if not name else spread(_alone(every[name], data, name, seed), 1.0, 3),
                spread(interval_of(value, values), 1.0, 3),
                gain,
                _shares(shares, base_shares, first=name is None),
                *_billed(name, bills),
            ]
        )
    return lines


def _alone(column: FloatArray, data: CascadeData, name: str, seed: int) -> Interval:
    """The AUC of the signal as it comes, where it was had; no model is fitted."""
    had = np.isfinite(column)
    sign = -1.0 if name in LOWER_IS_BETTER else 1.0
    statistic = auc_weighted(sign * column[had], data.cheap[had])
    groups = None if data.groups is None else data.groups[had]
    return bootstrap(statistic, int(had.sum()), seed=seed, groups=groups)


def _who(name: str | None, cheap: str, dear: str) -> str:
    if not name:
        return "–"
    row = asked_signal(name)
    return {AskedTier.ANSWERING: cheap, AskedTier.LAST: dear, AskedTier.VERIFIER: row.verifier}[row.asks]


def _shares(shares: FloatArray, base: FloatArray, *, first: bool) -> str:
    said = f"{100 * shares.mean():.1f} (none in {100 * (shares == 0).mean():.0f})"
    return said if first else f"{said}, {100 * (shares - base).mean():+.1f}"


def _billed(name: str | None, bills: Mapping[str, tuple[float, float, float]]) -> list[str]:
    known = bills.get(name or "")
    return ["–", "–"] if known is None else [f"{1000 * known[0]:.3g}", f"{known[1]:.2g} ({known[2]:.2g})"]


def page(lines: list[list[str]], found: OutcomeTable, args: argparse.Namespace, bills: Mapping[str, object]) -> str:
    """The page: how it was made, the table, and how it is to be read."""
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    right = [found.grade(tier).mean() for tier in (args.cheap, args.dear)]
    head = ["signal", "asked", "AUC alone", "AUC of the verifier", "gain", "certified, % of answers",
            "$ per 1,000 answers", "seconds a call, median (90 %)"]  # fmt: skip
    made = (
        f"`python -m benchmarks.learning.signals {args.said}`, {moment}, {os.cpu_count()} cores, no GPU; "
        f"{len(found)} prompts, right: {args.cheap} {right[0]:.1%}, {args.dear} {right[1]:.1%}."
    )
    read = HOW_TO_READ.format(
        router=args.router,
        splits=SPLITS,
        epsilon=args.epsilon,
        sure=1 - args.delta,
        bills=BILLED if bills else UNBILLED,
    )
    return "\n\n".join(["# Which signal buys what", made, table([head, *lines]), read]) + "\n"


def main() -> None:
    """Read the tables, compute, print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, required=True)
    parser.add_argument("--last", type=Path)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--cheap", default="cheap")
    parser.add_argument("--dear", default="frontier")
    parser.add_argument("--router", default="default")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    args.said = " ".join(
        f"--{name} {value.name if isinstance(value, Path) else value}"
        for name, value in vars(args).items()
        if value is not None and name != "page" and value != parser.get_default(name)
    )
    found = joined(args.outcomes, args.last, args.cheap, args.dear).with_embeddings(Encoder())
    bills = {} if args.records is None else billed(args.records, args.cheap)
    lines = rows_of(found, args.cheap, args.dear, args.router, args.epsilon, args.delta, args.seed, bills, print)
    text = page(lines, found, args, bills)
    if args.page is None:
        print(text)
    else:
        args.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
