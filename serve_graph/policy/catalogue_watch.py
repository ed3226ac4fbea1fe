"""The catalogue of intents that is in force: read at start, and again whenever its file changes.

Every process that decides follows the file by itself, so that an edit counts everywhere within seconds. An edit that
cannot be read leaves in force what was, and is told of in the log, `/readyz` and `/metrics`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router_models.errors import DataError
from router_models.estimators.catalogue.intents import Catalogue, read_catalogue
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError

logger = logging.getLogger(__name__)
CATALOGUE_LOOK_S = 1.0
Seen = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class CatalogueMetrics(Collector):
    """Whether the catalogue's file, as it is now, is in force."""

    valid: bool = True

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge."""
        yield GaugeMetricFamily(
            "serve_graph_catalogue_valid",
            "1 where the catalogue of intents is in force as its file is now; 0: its last edit was not taken.",
            float(self.valid),
        )


class CatalogueWatch:
    """A catalogue's file and what is in force of it. Data: it travels to every replica, with what was read at start.

    Parameters
    ----------
    path : Path
        The file.
    tiers : sequence of str
        The tiers that it may name.

    Attributes
    ----------
    catalogue : Catalogue
        What is in force.

    Raises
    ------
    DataError
        Where the file cannot be read when it is first looked at.
    """

    def __init__(self, path: Path, tiers: Sequence[str]) -> None:
        self.path = path
        self.tiers = tuple(tiers)
        self._unread: str | None = None
        self._unused: str | None = None
        self._seen = _seen(path)
        self.catalogue: Catalogue = read_catalogue(path, self.tiers)

    @classmethod
    def of(cls, config: GraphConfig) -> CatalogueWatch | None:
        """The catalogue that a configuration names, None where it names none; ConfigError says what is wrong."""
        if config.policy.catalogue is None:
            return None
        try:
            return cls(config.policy.catalogue, config.tier_names)
        except DataError as error:
            raise ConfigError(f"policy.catalogue: {error}") from error

    @property
    def fault(self) -> str | None:
        """Why the file, as it is now, is not in force; None where it is."""
        return self._unread or self._unused

    def look(self) -> bool:
        """Read the file where it changed; whether another catalogue is in force since."""
        seen = _seen(self.path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            found = read_catalogue(self.path, self.tiers)
        except DataError as error:
            self._unread = str(error)
            logger.error("the catalogue of intents stays as it was: %s", error)
            return False
        was, self.catalogue, self._unread = self.catalogue.digest, found, None
        logger.info("catalogue of intents %s: %d intents", found.digest[:12], len(found.intents))
        return found.digest != was

    async def follow(self, use: Callable[[Catalogue], Awaitable[None]] | None = None) -> None:
        """Look again and again, for ever; `use` is called with what is in force after every look."""
        while True:
            await asyncio.sleep(CATALOGUE_LOOK_S)
            await asyncio.to_thread(self.look)
            if use is not None:
                try:
                    await use(self.catalogue)
                    self._unused = None
                except Exception as error:  # noqa: BLE001 (the one before stays in force)
                    if str(error) != self._unused:
                        logger.error("the catalogue of intents cannot be used: %s", error)
                    self._unused = str(error)

    def facts(self) -> dict[str, Any]:
        """What `/readyz` says of it."""
        found = self.catalogue
        named = {"file": str(self.path), "digest": found.digest[:12], "intents": [one.name for one in found.every]}
        return {**named, "fault": self.fault}


def _seen(path: Path) -> Seen | None:
    """What tells two states of a file apart; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
