"""A graph that answers a dataset in this process: the served version and its cascade, with tiers of batches.

The version is found and checked against the configuration as a graph does at its start, coverage and promises are
those of requests, and every row leaves its decision record in the graph's store. Only the tiers are others: calls of
hosted ones wait for a provider's batch.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

import httpx

from router_models.pricing.prices import Tariff
from router_models.types.exchange import verifier_of
from serve_graph.api.http import Backend, build_http
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.batched_tiers import batch_pool, batched_tiers, check_batched
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_engine import GraphTierEngine, ProviderEngine, TierTerms
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.cli.client.api_key import key_headers
from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.service import build_service, cascade_context
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig
from serve_graph.errors import ServeGraphError
from serve_graph.policy.bindings import price_list
from serve_graph.policy.catalogue_watch import CatalogueWatch
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_version
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

LONGEST_ROW = 1 << 26
OVER_HTTP_NOBODY_ASKS = "last_tier_likelihood"
IN_BACKGROUND = {"x-serve-graph-background": "1"}


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """How a run uses providers' batches. `url`: the running graph, for tiers that have none.

    `interactive`: hosted tiers that are asked there as well, though they are behind one API.
    """

    config: GraphConfig
    url: str
    budget: Decimal | None = None
    poll_s: float = 30.0
    linger_s: float = 2.0
    timeout_s: float = 600.0
    interactive: tuple[str, ...] = ()


@dataclass
class GraphInProcess:
    """What answers the rows: `app` over HTTP's own routes, its version, its money and its batches."""

    app: Any
    version: ServedVersion
    purse: HeldMoney
    ledger: ProviderLedger
    pools: dict[str, BatchPool] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any]:
        """What `/readyz` of a graph would say."""
        return {"ready": True, "version": self.version.name, "promise": self.version.policy.promise}

    def told(self) -> dict[str, Any]:
        """For the summary: which tiers were sent in batches, how many, and at which part of their prices."""
        return {
            name: {"batches": pool.batches, "price_factor": str(pool.price_factor)}
            for name, pool in self.pools.items()
        }

    async def read_ended(self) -> None:
        """Read what has ended of batches that no row waits for; nothing is sent after that."""
        self.purse.stopped = self.purse.stopped or "the run has ended"
        for pool in self.pools.values():
            pool.stop()
            await pool.read_ended()


@asynccontextmanager
async def graph_in_process(
    terms: ProviderTerms, journal: Journal, tell: Callable[[str], None]
) -> AsyncIterator[GraphInProcess]:
    """Open the graph, take up batches that an earlier run had begun, and store the records at the end.

    Raises ServeGraphError where no tier of the configuration can be sent in batches, or a tier of the running graph
    cannot be asked for a signal that the version reads.
    """
    bare = {"embedders": (), "verifiers": ()}
    config = terms.config.model_copy(update=bare)
    check_batched(terms.config, terms.interactive)
    version = ServedVersion.of(serving_version(terms.config), config)
    asked = [name for names in version.policy.asked.values() for name in names]
    if models := sorted({name for name in asked if verifier_of(name) is not None}):
        raise ServeGraphError(
            f"{version.name} judges answers by {' and '.join(models)}, scores of verifier models, which batches at a "
            "provider do not ask: leave --provider-batches out"
        )
    if any(OVER_HTTP_NOBODY_ASKS in names for names in version.policy.asked.values()):
        raise ServeGraphError(
            f"{version.name} judges answers by {OVER_HTTP_NOBODY_ASKS} of the last tier, which has no batches and is "
            "asked over HTTP, where that cannot be asked for: leave --provider-batches out, or take --passes"
        )
    ledger = ProviderLedger(journal.connection)
    purse = HeldMoney(terms.budget, journal.totals().usd + ledger.unaccounted_usd())
    client = httpx.AsyncClient(base_url=terms.url, headers=key_headers() | IN_BACKGROUND, timeout=terms.timeout_s)
    pools: dict[str, BatchPool] = {}
    engines: dict[str, Any] = {}
    for tier in config.tiers:
        engines[tier.name] = _engine(tier, terms, ledger, purse, client, pools, tell)
    purse.spent += ledger.sent_usd() - sum(map(ledger.sent_usd, pools), Decimal(0))  # of tiers that nobody reads now
    files, policy = version.files, version.policy
    held, catalogue = None, CatalogueWatch.of(config)
    if files is not None:
        held = PolicyDeployment(files, config.policy.uncovered, config.policy.timeout_s, catalogue=catalogue)
    context = cascade_context(config, policy, engines, PolicySource(held=held))
    context = replace(context, asked=replace(context.asked, timeout_s=math.inf))  # its calls wait for batches, too
    store = DecisionStore(config.records_url)
    sink = SpooledSink(store, config.state_folder.resolve() / "spool", config.records.retry_s)
    without_deadline = config.model_copy(update={"http": config.http.model_copy(update={"deadline_s": None})})
    status = CertificateStatus(policy.validity, version.name)
    service = build_service(without_deadline, policy, context, status, sink, secrets.token_bytes(32))
    app = build_http(Backend(service, store.get, _nothing, _no_metrics, _until_shutdown, LONGEST_ROW))
    made = GraphInProcess(app, version, purse, ledger, pools)
    for pool in pools.values():
        pool.take_up()
    moving = asyncio.create_task(sink.run())
    try:
        yield made
    finally:
        for pool in pools.values():
            pool.stop()
            await pool.finish()
        await client.aclose()
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        try:
            await sink.drain()
        except Exception as error:  # noqa: BLE001 (any driver's: the graph's next process adopts the spool)
            tell(f"decision records wait in the spool: {type(error).__name__}")
        sink.close()
        await store.close()


def _engine(
    tier: AnyTierConfig, terms: ProviderTerms, ledger: ProviderLedger, purse: HeldMoney, client: httpx.AsyncClient,
    pools: dict[str, BatchPool], tell: Callable[[str], None],
) -> ProviderEngine | GraphTierEngine:  # fmt: skip
    hosted = batched_tiers(terms.config, terms.interactive).get(tier.name)
    own = TierTerms(tier, price_list(tier), Tariff.STANDARD if hosted is None else Tariff.BATCH)
    if hosted is None:
        return GraphTierEngine(own, client, purse)
    pool = pools[tier.name] = batch_pool(hosted, ledger, purse, terms.poll_s, terms.linger_s, tell)
    return ProviderEngine(own, pool)


async def _nothing() -> dict[str, Any]:
    return {"ready": True}


async def _no_metrics() -> str:
    return ""


async def _until_shutdown() -> None:
    await asyncio.Event().wait()


def in_process_client(graph: GraphInProcess) -> httpx.AsyncClient:
    """A client of the graph, without a socket and without a time limit."""
    transport = httpx.ASGITransport(cast("Any", graph.app), raise_app_exceptions=False, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://graph", timeout=None)
