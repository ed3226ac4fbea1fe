"""When each tier is asked its golden tasks next: in a row of the store, which one replica holds while it asks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from serve_graph.learning.watch_states import WatchState, WatchStates
from serve_graph.records.store import DecisionStore

STATE = "golden"
"""The row's name. Its state: `due`, when each tier is asked next; `kept`, the decisions whose prompts are asked."""


class GoldenSchedule:
    """Hold the row for a replica, and write down in it when a tier is due.

    Parameters
    ----------
    store : DecisionStore
        Where the row is.
    lease_s : float
        For how many seconds the row is held at a time: another replica goes on where this one has died.
    now : callable
        The time, with its zone.
    """

    def __init__(self, store: DecisionStore, lease_s: float, now: Callable[[], datetime]) -> None:
        self.states = WatchStates(store)
        self.lease_s = lease_s
        self.now = now
        self.replica = secrets.token_hex(8)
        self._held: WatchState | None = None
        self._holding = asyncio.Lock()

    async def read(self) -> WatchState:
        """Return the row as it is; raises StoreUnavailableError."""
        return await self.states.read(STATE)

    def due(self, state: WatchState, tiers: Iterable[str]) -> list[str]:
        """Return the tiers whose time has come; none while another replica holds the row."""
        at = moment_text(self.now())
        if state.is_held(self.replica, at):
            return []
        return [tier for tier in tiers if state.state.get("due", {}).get(tier, "") <= at]

    async def take(self, state: WatchState) -> bool:
        """Hold the row that was read; returns False where another replica was first."""
        return await self._hold(state)

    async def hold(self, *, always: bool = False) -> bool:
        """Go on holding the row: written where less than half of the time is left, or `always`.

        Returns False where it was taken meanwhile.
        """
        async with self._holding:  # answers come side by side: one of them writes, the others see that it has
            if self._held is None:
                return False
            left = datetime.fromisoformat(self._held.held_until) - self.now()
            if always or left.total_seconds() < self.lease_s / 2:
                return await self._hold(self._held)
            return True

    async def put_off(self, tier: str, wait_s: float) -> bool:
        """Write down when a tier is asked next; returns whether the row is still held."""
        if (held := self._held) is None:
            return False
        due = {**held.state.get("due", {}), tier: moment_text(self.now() + timedelta(seconds=wait_s))}
        return await self._hold(held, {**held.state, "due": due})

    @property
    def kept(self) -> list[str]:
        """The decisions whose kept prompts are asked, as they were drawn; only while the row is held."""
        assert self._held is not None
        return list(self._held.state.get("kept", ()))

    async def keep(self, drawn: Sequence[str]) -> None:
        """Write down the decisions whose kept prompts are asked from now on; only while the row is held."""
        assert self._held is not None
        await self._hold(self._held, {**self._held.state, "kept": drawn})

    async def release(self) -> None:
        """Let another replica have the row."""
        held, self._held = self._held, None
        if held is not None:
            await self.states.write(held, holder="", held_until="")

    async def _hold(self, state: WatchState, changed: Mapping[str, object] | None = None) -> bool:
        until = moment_text(self.now() + timedelta(seconds=self.lease_s))
        values = state.state if changed is None else changed
        self._held = await self.states.write(state, holder=self.replica, held_until=until, state=values)
        return self._held is not None


def moment_text(moment: datetime) -> str:
    """Return a moment as it is stored: ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


async def run_now(store: DecisionStore, tiers: Sequence[str]) -> bool:
    """Have every tier asked at the next look of a running graph; False while a run is under way."""
    states = WatchStates(store)
    state = await states.read(STATE)
    if state.is_held("", moment_text(datetime.now(UTC))):
        return False
    due = {**state.state.get("due", {}), **dict.fromkeys(tiers, "")}
    return await states.write(state, state={**state.state, "due": due}) is not None
