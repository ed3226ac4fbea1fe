"""Files and batches of one ingress replica, put together from its configuration and its other parts."""

from __future__ import annotations

from dataclasses import dataclass

from serve_graph.access.accounts import Accounts
from serve_graph.access.keys import Keyring
from serve_graph.api.batches.files import BatchParts
from serve_graph.cluster.batches.batch_metrics import BatchMetrics
from serve_graph.cluster.batches.line_run import LineRunner
from serve_graph.cluster.batches.pace import Pace
from serve_graph.cluster.batches.worker import BatchWorker
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.handler import Service
from serve_graph.records.batches.batches_table import BatchesTable
from serve_graph.records.batches.file_storage import FileStorage
from serve_graph.records.batches.files_table import FilesTable
from serve_graph.records.store import DecisionStore


@dataclass(frozen=True)
class ServedBatches:
    """What the routes have of it, and the worker beside them."""

    parts: BatchParts
    worker: BatchWorker


def served_batches(
    config: GraphConfig, store: DecisionStore, service: Service, accounts: Accounts, keyring: Keyring
) -> ServedBatches | None:
    """Files and batches, where the configuration has them; raises ConfigError for a place that cannot be used."""
    batches = config.batches
    if not batches.enabled:
        return None
    metrics = BatchMetrics()
    pace = Pace(accounts.traffic, batches.concurrency, batches.beside)
    # places of their own: a request whose body does not come keeps no line of a batch waiting
    accounts.background_place = Pace(accounts.traffic, batches.concurrency, batches.beside).place
    runner = LineRunner(service, accounts, keyring, pace, metrics, batches.attempts, config.policy.unknown_fields)
    parts = BatchParts(FilesTable(store), BatchesTable(store), FileStorage(config.files_uri), batches)
    worker = BatchWorker(parts, runner, metrics, config.http.max_body_bytes)
    return ServedBatches(BatchParts(parts.files, parts.batches, parts.storage, batches, worker.wake), worker)
