"""Which tiers are scaled to zero now, and how one is woken: by a call that waits for its first replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from serve_graph.cluster.replicas.broadcast import running_replicas
from serve_graph.cluster.replicas.in_process import TierHandle
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.capabilities import AsleepTiers

logger = logging.getLogger(__name__)
POLL_S = 1.0


class SleepWatch:
    """Look every second which of the tiers that may scale to zero have a replica, where there are such.

    The last tier is never taken to be asleep: nobody could answer for it, so that requests wait for its replica.

    Parameters
    ----------
    handles : mapping of str to ray.serve.handle.DeploymentHandle
        The tiers' deployments.
    config : GraphConfig
        Which of them may scale to zero.
    count : callable
        Returns the number of running replicas by deployment; called in a thread.
    """

    def __init__(
        self,
        handles: Mapping[str, TierHandle],
        config: GraphConfig,
        count: Callable[[], Mapping[str, int]] = running_replicas,
    ) -> None:
        self.handles = handles
        self.count = count
        sleepers = (tier for tier in config.tiers[:-1] if tier.scaling.min_replicas == 0)
        self.sleepers = {tier.name: tier.engine_name for tier in sleepers}
        self.asleep = AsleepTiers(self.wake)
        self._waking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Keep `asleep` true; for ever, unless no tier scales to zero."""
        while self.sleepers:
            try:
                replicas = await asyncio.to_thread(self.count)
            except Exception as error:  # noqa: BLE001 (whatever Ray raises: a tier that may be awake is asked)
                logger.warning("how many replicas the tiers have is not known: %s", type(error).__name__)
                self.asleep.tiers = frozenset()
            else:
                self.asleep.tiers = frozenset(t for t, engine in self.sleepers.items() if not replicas.get(engine))
            await asyncio.sleep(POLL_S)

    def wake(self, tier: str) -> None:
        """Have the tier started: Ray Serve starts a replica for a call that waits for one."""
        if tier not in self._waking:
            logger.info("tier %r is woken", tier)
            self._waking[tier] = asyncio.create_task(self._call(tier))

    async def _call(self, tier: str) -> None:
        try:
            await self.handles[tier].counters.remote()
        except Exception as error:  # noqa: BLE001 (its failure is the next request's to see)
            logger.warning("tier %r could not be woken: %s", tier, type(error).__name__)
        finally:
            del self._waking[tier]
