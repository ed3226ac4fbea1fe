"""Background maintenance of the ingress: retention, redaction of prompts, and refreshing keys and spending."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from router_models.errors import by_number
from serve_graph.access.budgets import Spending, starts
from serve_graph.access.keys import Keyring, changes_of_keys
from serve_graph.config.graph import GraphConfig
from serve_graph.config.records import RecordsConfig
from serve_graph.errors import ConfigError, StoreUnavailableError
from serve_graph.records.audit import AuditEntry, deliver_left, leave, left_in
from serve_graph.records.audit_log import AuditLog
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
REDACTED = "[redacted]"
RETENTION_EVERY_S = 3600.0


def metadata_keeper(config: RecordsConfig) -> Callable[[Mapping[str, str]], dict[str, str]]:
    """Prepare a request's metadata for its record: values redacted as prompts are, but for those named in
    `records.keep_metadata` left out.

    Raises ConfigError if the hook `redact_with` cannot be imported.
    """
    redacted, names = _redaction(config), config.keep_metadata
    if names is None and not config.redact and config.redact_with is None:
        return dict

    def kept(metadata: Mapping[str, str]) -> dict[str, str]:
        shown = metadata if names is None else {name: metadata[name] for name in names if name in metadata}
        return {name: redacted(value) for name, value in shown.items()}

    return kept


def prompt_keeper(config: RecordsConfig) -> Callable[[str], str | None]:
    """Prepare the text of a prompt for its record: None unless `keep_prompts`, otherwise redacted.

    Raises ConfigError if the hook `redact_with` cannot be imported. If the hook fails on a prompt, its text is not
    kept; the request itself is unaffected.
    """
    return _redaction(config) if config.keep_prompts else lambda _: None


def answer_keeper(config: RecordsConfig) -> Callable[[str], str | None] | None:
    """Prepare the text of an answer for its record, redacted as prompts are; None where answers are not kept."""
    return _redaction(config) if config.keeps_answers else None


def _redaction(config: RecordsConfig) -> Callable[[str], str]:
    hook = _hook(config.redact_with)

    def kept(text: str) -> str:
        for pattern in config.redact:
            text = pattern.sub(REDACTED, text)
        if hook is None:
            return text
        try:
            return str(hook(text))
        except Exception as error:  # noqa: BLE001 (user code, which must not fail the request)
            logger.error("records.redact_with failed (%s): the prompt is not kept", type(error).__name__)
            return REDACTED

    return kept


def _hook(name: str | None) -> Callable[[str], str] | None:
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    try:
        found: Callable[[str], str] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"records.redact_with {name!r} cannot be imported: {error}") from error
    return found


class Maintenance:
    """Tasks that run as long as the ingress; errors are logged and the task is repeated in the next round."""

    def __init__(
        self, store: DecisionStore, sink: SpooledSink, keyring: Keyring, spending: Spending, config: GraphConfig
    ) -> None:
        self.store = store
        self.sink = sink
        self.keyring = keyring
        self.spending = spending
        self.keep_days = config.records.keep_days
        self.audit_keep_days = config.records.audit_keep_days
        self.audit = AuditLog(store)
        self.audit_left = left_in(config)
        self.model = config.policy.model_name
        self.refresh_s = config.access.refresh_s
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._deleted_at: float | None = None

    async def run(self) -> None:
        while True:
            for step in (self.refresh_keys, self.refresh_spending, self.deliver_audit, self.delete_old):
                try:
                    await step()
                except (ConfigError, StoreUnavailableError) as error:
                    logger.warning("%s", error)
                except Exception as error:  # noqa: BLE001 (whatever a driver raises)
                    logger.warning("%s: %s", step.__name__, type(error).__name__)
            await asyncio.sleep(self.refresh_s)

    async def refresh_keys(self) -> None:
        """Read the keys file again, and note what changed in the audit log: once, however many replicas notice."""
        before = self.keyring.keys
        self.keyring.refresh()
        if changes := changes_of_keys(before, self.keyring.keys):
            told = json.dumps([str(self.keyring.path), self.keyring.changed_at, changes])
            name = f"aud-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
            leave(self.audit_left, AuditEntry("graph", "keys.in_force", "access keys", detail=changes, id=name))

    async def refresh_spending(self) -> None:
        """Sum up the spending of every key over all replicas, once the store has the records of this one.

        If the store does not catch up within `refresh_s`, the previous sums remain. Without budgets nothing is summed.
        """
        budgets = [usd for key in self.keyring.keys for usd in (key.usd_per_day, key.usd_per_month)]
        self.spending.mark()
        if all(usd is None for usd in budgets):
            return self.spending.settle({}, self.now())
        written, gives_up_at = self.sink.written, time.monotonic() + self.refresh_s
        while self.sink.delivered < written:
            if time.monotonic() >= gives_up_at:
                return None
            await asyncio.sleep(self.sink.idle_s)
        now = self.now()
        return self.spending.settle(await self.store.spent_by_key(starts(now), self.model), now)

    async def deliver_audit(self) -> None:
        """Write the audit entries to the store that a command or this graph could not."""
        await deliver_left(self.audit_left, self.audit)

    async def delete_old(self) -> None:
        """Delete records older than `keep_days`, and audit entries older than they are kept, at most once an hour."""
        if self._deleted_at is not None and time.monotonic() - self._deleted_at < RETENTION_EVERY_S:
            return
        now = self.now()
        if self.keep_days is not None:
            moment = now - timedelta(days=self.keep_days)
            before = moment.isoformat(timespec="milliseconds")
            deleted = await self.store.delete_before(before)
            deleted += self.sink.delete_rejected(moment.timestamp())
            if deleted:
                logger.info("deleted %d record(s) older than %g days", deleted, self.keep_days)
                why = f"older than {self.keep_days:g} {by_number(self.keep_days, 'day')}"
                detail = {"deleted": deleted, "before": before}
                await self.audit.write([AuditEntry("graph", "records.delete", "decisions", why, detail)])
        if self.audit_keep_days is not None:
            before = (now - timedelta(days=self.audit_keep_days)).isoformat(timespec="milliseconds")
            if deleted := await self.audit.delete_before(before):
                logger.info("deleted %d audit entries older than %g days", deleted, self.audit_keep_days)
        self._deleted_at = time.monotonic()
