"""Passes in which hosted tiers are asked by batches of their provider, and the other tiers by the passes' own engines.

A pass over a batched tier happens in the driver: its rows become lines of a `BatchPool`, whose ledger lies in the
rows' own journal. What comes back is judged where all answers are, piece by piece, while the provider is asked on.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from typing import Any

from router_models.estimators.signals import TierKind
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion
from serve_graph.cli.batch.passes.piece_lines import PieceLines
from serve_graph.cli.batch.providers.batched_tiers import batch_pool
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.cluster.batches.passes.pass_rows import ReplyPieces, RowPieces, RowProgress
from serve_graph.cluster.batches.passes.passes import Passes
from serve_graph.cluster.batches.passes.purse import PurseLike
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.errors import ServeGraphError
from serve_graph.policy.tier_kinds import tier_kind


@dataclass(frozen=True, slots=True)
class BatchedPassTerms:
    """How passes use providers' batches: of which `tiers`, how often they are looked at, when one is sent.

    `most_lines`: that are under way at a time. `by_logprobs`: tiers whose answers are judged by their logprobs.
    """

    tiers: Mapping[str, HostedTierConfig]
    poll_s: float = 30.0
    linger_s: float = 2.0
    most_lines: int = 50_000
    by_logprobs: frozenset[str] = frozenset()


class ProviderPasses:
    """Passes by `inner`, but for tiers that are asked by batches.

    What was sent under an earlier run is found at the provider, and not sent again.
    """

    def __init__(
        self, inner: Passes, ledger: ProviderLedger, terms: BatchedPassTerms, tell: Callable[[str], None]
    ) -> None:
        self.inner, self.ledger, self.terms, self.tell = inner, ledger, terms, tell
        self.money = HeldMoney()
        self.batches = dict.fromkeys(terms.tiers, 0)
        self.waits = dict.fromkeys(terms.tiers, 0)
        self.asking: Generator[list[RowProgress], None, None] | None = None

    def __enter__(self) -> ProviderPasses:
        return self

    def __exit__(self, *_: object) -> None:
        if self.asking is not None:
            self.asking.close()  # of a pass that was broken off

    def beside(self) -> Decimal:
        """Dollars for lines whose rows are noted no further yet: paid, or at most what they may cost."""
        return self.ledger.unaccounted_usd() + self.ledger.sent_usd()

    def halted(self) -> str | None:
        """Why nothing is sent any more."""
        return self.money.stopped

    def read_ended(self) -> None:
        """Read batches of earlier runs that have ended, for which no row waited: the sum holds what they cost then."""
        left = {begun.tier for begun in self.ledger.open() if begun.batch is not None}
        for name in left & self.terms.tiers.keys():
            asyncio.run(self._read(self.terms.tiers[name]))

    async def _read(self, tier: HostedTierConfig) -> None:
        terms, money = self.terms, HeldMoney(stopped="the run has ended")
        pool = batch_pool(tier, self.ledger, money, terms.poll_s, terms.linger_s, self.tell)
        await pool.read_ended()
        await pool.finish()

    def told(self) -> dict[str, dict[str, Any]]:
        """For the summary: how many batches of each tier, at which part of its prices, in how many passes."""
        return {
            name: {
                "batches": self.batches[name],
                "price_factor": str(tier.price.batch_factor),
                "passes": self.waits[name],
            }
            for name, tier in self.terms.tiers.items()
        }

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        return self.inner.route(chunks)

    def judge(self, tier: str, replies: ReplyPieces) -> Iterator[list[RowProgress]]:
        return self.inner.judge(tier, replies)

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        if (batched := self.terms.tiers.get(tier)) is None:
            return self.inner.answer(tier, chunks)
        self.asking = self._by_batches(batched, chunks)
        return self.asking

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        """As the protocol says; what batches may begin is kept here, by the most that each line may cost."""
        if tier not in self.terms.tiers:
            return self.inner.purse(tier, size, budget, spent)
        self.money = HeldMoney(budget, spent - self.ledger.sent_usd(tier))  # whose lines are held again below
        return None

    def _by_batches(self, tier: HostedTierConfig, chunks: RowPieces) -> Generator[list[RowProgress], None, None]:
        """Ask, and judge what came back while the rest is asked."""
        terms, name = self.terms, tier.name
        lines = PieceLines(tier, chunks, name in terms.by_logprobs, self.ledger, self.money, terms.most_lines)
        with asyncio.Runner() as loop, ThreadPoolExecutor(1, "judging") as judging:
            loop.run(lines.open(terms.poll_s, terms.linger_s, self.tell))
            try:
                for group in count():
                    if not (pieces := loop.run(lines.ended())):
                        break
                    folder = chunks.folder / f"replies-{group}"
                    found = self.inner.judge(name, ReplyPieces.write(folder, pieces, alone=chunks.alone))
                    while (progress := loop.run(_next_of(found, judging))) is not None:
                        yield progress
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                loop.run(lines.close())
                self.batches[name] += lines.batches
                self.waits[name] += lines.batches > 0


async def _next_of(found: Iterator[list[RowProgress]], judging: ThreadPoolExecutor) -> list[RowProgress] | None:
    return await asyncio.get_running_loop().run_in_executor(judging, next, found, None)


def checked_terms(terms: BatchedPassTerms, plan: PassesPlan, model: str = "auto") -> BatchedPassTerms:
    """The terms with what the version reads of answers, before anything is asked; of a tier that is asked by its name
    nothing is judged.

    Raises ConfigError where the key of a provider is missing, and ServeGraphError where a version judges answers of a
    tier by log-probabilities that its API does not give.
    """
    for tier in terms.tiers.values():
        tier.apis[0].read_key()
    is_forced = plan.config.models.aliases.get(model, model) in plan.config.tier_names
    reads = set[str]() if is_forced else judged_by_logprobs(plan) & terms.tiers.keys()
    if blind := [name for name in sorted(reads) if tier_kind(terms.tiers[name]) is TierKind.HOSTED]:
        raise ServeGraphError(
            f"{plan.policy.name} judges answers of {' and '.join(blind)} by their log-probabilities, which that API "
            "does not give (`api: anthropic`, or `parameters: {logprobs: null}`), in batches or call by call: serve a "
            "version whose verifier reads none"
        )
    return replace(terms, by_logprobs=frozenset(reads))


def judged_by_logprobs(plan: PassesPlan) -> set[str]:
    """The tiers below the last whose answers the version judges by their log-probabilities."""
    if plan.files is None or plan.config.policy.share is not None:
        return set()
    folder = plan.files.on_this_node()
    if folder is None:
        return set()
    stages = RouterVersion.load(folder, plan.files.name).stages
    below = (tier for tier in plan.config.tier_names[:-1] if tier in stages)
    return {tier for tier in below if not set(LOGPROB_NAMES).isdisjoint(stages[tier].verifier.wants_signals)}
