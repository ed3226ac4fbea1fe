"""The rollouts of a decision store: one that goes on for each model at most; a change and its audit entry are one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from serve_graph.errors import StoreUnavailableError
from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.records.audit import AuditEntry
from serve_graph.records.audit_log import add_entries
from serve_graph.records.schema import ROLLOUTS
from serve_graph.records.store import DecisionStore


class RolloutTable:
    """Read and change rollouts. Every method raises StoreUnavailableError where the store is out of reach."""

    def __init__(self, store: DecisionStore) -> None:
        self.store = store

    async def active(self, model: str) -> Rollout | None:
        """The rollout of a model that goes on; None where none does."""
        async with self.store.reading() as connection:
            found = await connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.active == model))
            row = found.mappings().first()
        return None if row is None else _rollout_of(row)

    async def get(self, rollout_id: str) -> Rollout | None:
        """One rollout by its id."""
        async with self.store.reading() as connection:
            row = (await connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.id == rollout_id))).mappings().first()
        return None if row is None else _rollout_of(row)

    async def latest(self, model: str, limit: int = 20) -> list[Rollout]:
        """A model's rollouts, those that go on first, then the newest first."""
        query = select(ROLLOUTS).where(ROLLOUTS.c.model == model)
        query = query.order_by(ROLLOUTS.c.active.is_(None), ROLLOUTS.c.begun_at.desc(), ROLLOUTS.c.id).limit(limit)
        async with self.store.reading() as connection:
            return [_rollout_of(row) for row in (await connection.execute(query)).mappings()]

    async def begin(self, rollout: Rollout, entry: AuditEntry) -> bool:
        """Add a rollout with its audit entry; False, and nothing is written, where another of its model goes on."""
        try:
            async with self.store.writing() as connection:
                await connection.execute(insert(ROLLOUTS).values(**_rollout_row(rollout)))
                await add_entries(connection, [entry])
        except IntegrityError:
            return False
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from error
        return True

    async def change(self, before: Rollout, after: Rollout, entry: AuditEntry) -> bool:
        """Replace a rollout together with the audit entry that says so.

        False, and nothing is written, where somebody else has changed it since `before` was read.
        """
        values = _rollout_row(after)
        where = (ROLLOUTS.c.id == before.id) & (ROLLOUTS.c.epoch == before.epoch)
        try:
            async with self.store.writing() as connection:
                done = await connection.execute(update(ROLLOUTS).where(where).values(**values))
                if done.rowcount:
                    await add_entries(connection, [entry])
                return bool(done.rowcount)
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from error

    async def note_evidence(self, rollout: Rollout, evidence: Mapping[str, Any]) -> bool:
        """Keep what was found so far; no change of the rollout, so that its epoch stays. False as `change`."""
        where = (ROLLOUTS.c.id == rollout.id) & (ROLLOUTS.c.epoch == rollout.epoch)
        try:
            async with self.store.writing() as connection:
                values = {"evidence": json.dumps(dict(evidence))}
                return bool((await connection.execute(update(ROLLOUTS).where(where).values(**values))).rowcount)
        except (SQLAlchemyError, OSError) as error:
            raise _unwritable(error) from error


def _unwritable(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"the decision store cannot be written ({type(error).__name__})")


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    row = rollout.shown()
    row |= {name: json.dumps(row[name]) for name in ("steps", "evidence")}
    row |= {"active": rollout.model if rollout.is_active else None}
    return {name: v.replace("\0", "�") if isinstance(v, str) else v for name, v in row.items()}


def _rollout_of(row: Mapping[Any, Any]) -> Rollout:
    values = {str(name): value for name, value in row.items() if name != "active"}
    steps, evidence = tuple(json.loads(values["steps"])), json.loads(values["evidence"])
    return Rollout(**values | {"steps": steps, "evidence": evidence, "state": RolloutState(values["state"])})
