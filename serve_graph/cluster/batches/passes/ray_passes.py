"""Passes on Ray Data: every worker an actor, rows streamed through them, as many pieces at a time as fit."""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from serve_graph.cluster.batches.passes.pass_rows import Columns, ReplyPieces, RowPieces, RowProgress, read_pieces
from serve_graph.cluster.batches.passes.purse import Purse, PurseLike
from serve_graph.cluster.batches.passes.ray_purse import RemotePurse
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.cluster.batches.passes.vllm_stage import answered_by_vllm, pieces_at_once, with_max_num_seqs
from serve_graph.cluster.batches.passes.workers import CascadeWorker, TierWorker, progress_of_rows
from serve_graph.cluster.batches.served_verifier import asked_in_a_pass, forget_applications, served_for_a_pass
from serve_graph.config.judge import VllmVerifierConfig
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.errors import ServeGraphError

PASSES_STORE_BYTES = 512 * 1024**2
TRIES_OF_A_TASK = 1
"""How often a piece is tried again whose worker died; then its rows are left, and tried one by one."""
TASKS_AT_ONCE = 4
READER_CPUS = 0.05
ASKING_CPUS = 0.1
PIECE_READERS = 2


class CascadeActor:
    """A CascadeWorker over pyarrow's tables."""

    def __init__(self, plan: PassesPlan, tier: str | None) -> None:
        self.worker = CascadeWorker(plan, tier)

    async def __call__(self, table: pa.Table) -> pa.Table:
        return pa.table(await self.worker(table.to_pydict()))


class TierActor:
    """A TierWorker over pyarrow's tables."""

    def __init__(self, tier: Any) -> None:
        self.worker = TierWorker(tier)

    async def __call__(self, table: pa.Table) -> pa.Table:
        made: Columns = await self.worker(table.to_pydict())
        return pa.table(made)


class VerifierActor:
    """Asks a verifier model of vLLM, which is an application of the cluster, about answers."""

    def __init__(self, verifier: VllmVerifierConfig, application: str) -> None:
        self.worker = TierWorker(verifier, asked_in_a_pass(verifier.name, application))

    async def __call__(self, table: pa.Table) -> pa.Table:
        return pa.table(await self.worker(table.to_pydict()))


class RayPasses:
    """Passes on a Ray cluster: the one at `address`, or one of this machine for as long as this is open.

    `tier_actor`: what holds the engine of a tier that is no vLLM's. `run`: names what it has on the cluster beside its
    actors; what a killed run of that name left there ends. `max_num_seqs`: how many rows an engine of vLLM computes at
    a time; None: as it is served.
    """

    tier_actor: type = TierActor

    def __init__(
        self,
        plan: PassesPlan,
        address: str | None = None,
        logical_cpus: int | None = None,
        run: str | None = None,
        *,
        max_num_seqs: int | None = None,
    ) -> None:
        self.plan, self.max_num_seqs = plan, max_num_seqs
        self.run = run or uuid.uuid4().hex[:12]
        self.held = ExitStack()
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        own = {"num_cpus": logical_cpus, "object_store_memory": PASSES_STORE_BYTES, "include_dashboard": False} | quiet
        os.environ.setdefault("RAY_worker_niceness", "0")  # as served: by default engines give way to all else here
        try:
            ray.init(address=address, **quiet) if address else ray.init(address="local", **own)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            where = f"the cluster at {address} ($RAY_ADDRESS)" if address else "a Ray of this machine"
            raise ServeGraphError(f"{where} cannot be used: {str(error).strip().splitlines()[0]}") from error
        if address and any(isinstance(model, VllmVerifierConfig) for model in plan.config.verifiers):
            forget_applications(self.run)
        # Said of a pass with fewer pieces than workers, in Ray's own thread: of one row that kills its worker, too.
        warnings.filterwarnings("ignore", "The m[a-z]+ number of concurrent", UserWarning)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.issue_detectors_config.detectors = []
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # the rows of a piece that is given up are left, not the whole pass

    def __enter__(self) -> RayPasses:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.held.close()  # of a pass that was broken off
        finally:
            ray.shutdown()

    def route(self, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        rows = self._rows(chunks)
        return self._progress(self._cascaded(rows, None, cpus=1.0, alone=chunks.alone))

    def answer(self, tier: str, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        config, rows = self.plan.config.tier(tier), self._rows(chunks)
        if isinstance(config, VllmVerifierConfig):
            return self._scored(config, rows, chunks)
        if isinstance(config, VllmTierConfig):
            engine = with_max_num_seqs(config, self.max_num_seqs)
            rows = answered_by_vllm(rows, engine, self.plan.config, alone=chunks.alone)
        else:
            rows = self._mapped(
                rows,
                self.tier_actor,
                (config,),
                size=config.scaling.max_replicas,
                alone=chunks.alone,
                num_cpus=config.scaling.num_cpus,
                max_concurrency=TASKS_AT_ONCE,
            )
        return self._progress(self._cascaded(rows, tier, alone=chunks.alone))

    def judge(self, tier: str, replies: ReplyPieces) -> Iterator[list[RowProgress]]:
        return self._progress(self._cascaded(self._rows(replies), tier, alone=replies.alone))

    def _scored(self, verifier: VllmVerifierConfig, rows: Any, chunks: RowPieces) -> Iterator[list[RowProgress]]:
        """What a verifier model says of answers; it is there for this pass alone."""
        application = self.held.enter_context(served_for_a_pass(verifier, self.plan.config, self.run))
        try:
            rows = self._mapped(
                rows,
                VerifierActor,
                (verifier, application),
                size=verifier.scaling.max_replicas,
                alone=chunks.alone,
                num_cpus=ASKING_CPUS,
                max_concurrency=TASKS_AT_ONCE,
            )
            yield from self._progress(self._cascaded(rows, verifier.name, alone=chunks.alone))
        finally:
            self.held.close()

    def purse(self, tier: str, size: int, budget: Decimal | None, spent: Decimal) -> PurseLike | None:
        """As the protocol says; twice as many pieces may be under way as the workers of a tier have at a time.

        Ray itself bounds by memory alone what waits between two workers, and rows are small.
        """
        config = self.plan.config.tier(tier)
        each = TASKS_AT_ONCE
        if isinstance(config, VllmTierConfig) and not isinstance(config, VllmVerifierConfig):
            each = pieces_at_once(with_max_num_seqs(config, self.max_num_seqs))
        return RemotePurse.of(Purse(budget, spent, most=2 * size * each * config.scaling.max_replicas))

    def _rows(self, chunks: RowPieces | ReplyPieces) -> Any:
        pieces = ray.data.range(chunks.count, override_num_blocks=chunks.count)
        return pieces.map_batches(
            partial(read_pieces, chunks),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=READER_CPUS,
            compute=ray.data.TaskPoolStrategy(size=min(PIECE_READERS, chunks.count)),
        )

    def _cascaded(self, rows: Any, tier: str | None, cpus: float = 0.5, *, alone: bool = False) -> Any:
        cpus_here = float(ray.cluster_resources().get("CPU", 1.0))
        size = max(1, int(cpus_here // 4))
        return self._mapped(rows, CascadeActor, (self.plan, tier), size=size, alone=alone, num_cpus=cpus)

    @staticmethod
    def _mapped(rows: Any, actor: type, given: tuple[Any, ...], *, size: int, alone: bool, **remote: Any) -> Any:
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=size)
        if alone:  # Ray counts a worker's death against every piece that is in it or waits for it
            remote["max_concurrency"] = 1
            pool = ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():  # Ray 2.60 has no other way to say these two, and announces one
            warnings.simplefilter("ignore", RayDeprecationWarning)
            return rows.map_batches(
                actor,
                fn_constructor_args=given,
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                max_task_retries=TRIES_OF_A_TASK,
                **remote,
            )

    @staticmethod
    def _progress(rows: Any) -> Iterator[list[RowProgress]]:
        try:
            # Ray shows a block once it has as many more as it fetches ahead, and those may wait for this one's cost.
            for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield list(progress_of_rows({"progress": table.column("progress").to_pylist()}))
        except (ray.exceptions.RayError, ray.exceptions.RayTaskError) as error:
            raise ServeGraphError(f"the pass was broken off: {str(error).strip().splitlines()[-1]}") from error
