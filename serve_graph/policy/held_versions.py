"""The versions that a router or verifier replica holds: the one served, those before it, and one that is to come."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from router_models.errors import ArtifactError
from router_models.estimators.catalogue.intents import Catalogue
from router_models.estimators.catalogue.nearest_example import CatalogueIndex
from router_models.types import Completion, Query
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.local_copies import HeldCopy
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.served_version import VersionFiles
from serve_graph.policy.validity import CertificateStatus, Clock, utc_now

MOST_VERSIONS = 3
MOST_CHARS = 131_072
"""Characters beyond which no text is read, unless longer ones were certified: patterns hold the interpreter's lock."""
FAILED_FOR_S = 10.0
"""For how long a version that could not be loaded is not tried again for requests."""
FindFiles = Callable[[str], Awaitable[VersionFiles | None]]


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """A loaded version, whether its certificate holds now, and how many characters of a text it reads at most."""

    version: RouterVersion
    certificate_status: CertificateStatus
    most_chars: int = MOST_CHARS
    digest: str | None = None
    copy: HeldCopy | None = None

    @classmethod
    def load(
        cls, files: VersionFiles, *, novel_to_top: bool, clock: Clock = utc_now, catalogue: Catalogue | None = None
    ) -> HeldVersion:
        """Load a version and use it once, so that no request pays for its encoder and libraries.

        Raises ArtifactError where its files are damaged, RegistryError where this node has none and cannot fetch them.
        """
        copy = files.held_copy()
        try:
            loaded = RouterVersion.load(copy.folder, files.name)
            if files.digest not in (None, loaded.loaded_digest):
                checked = "the one whose certificate was checked"
                raise ArtifactError(f"{copy.folder} or the encoder is another than {checked}")
        except BaseException:
            copy.close()
            raise
        index = None if catalogue is None else CatalogueIndex.of(catalogue, loaded.encoder)
        version = replace(loaded, novel_to_top=novel_to_top, catalogue=index)
        query = Query.from_prompt("warm-up")
        completion, decision = Completion("warm-up", token_logprobs=(-0.1, -0.2)), version.decide(query)
        for tier in version.stages:
            version.estimate(query, completion, replace(decision, tier=tier))
        most_chars = max(MOST_CHARS, version.longest_prompt or 0)
        return cls(version, CertificateStatus(files.validity, version.name, clock), most_chars, files.digest, copy)

    def beside(self, catalogue: Catalogue) -> HeldVersion:
        """The same version beside another catalogue of intents; examples that it knows are not embedded again."""
        index = CatalogueIndex.of(catalogue, self.version.encoder, self.version.catalogue)
        return replace(self, version=replace(self.version, catalogue=index))

    def let_go(self) -> None:
        """Let its files be removed, when others need the room."""
        if self.copy is not None:
            self.copy.close()


class HeldVersions:
    """Versions by name, loaded beside the event loop; of more than `MOST_VERSIONS` the one announced first goes.

    `loaded` are those at hand. `find_files` tells where a version's files are that nobody has announced; None: no
    others can be had. `catalogue`: the intents that decide beside every version.
    """

    def __init__(
        self,
        find_files: FindFiles | None,
        *,
        novel_to_top: bool,
        clock: Clock = utc_now,
        catalogue: Catalogue | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.find_files = find_files
        self.novel_to_top = novel_to_top
        self.clock = clock
        self.loaded: OrderedDict[str, HeldVersion] = OrderedDict()
        self._failed: dict[str, float] = {}
        self._loading: dict[str, asyncio.Future[HeldVersion]] = {}

    def add(self, files: VersionFiles) -> HeldVersion:
        """Load a version now, in this thread."""
        made = HeldVersion.load(files, novel_to_top=self.novel_to_top, clock=self.clock, catalogue=self.catalogue)
        return self._keep(files.name, made)

    async def use(self, catalogue: Catalogue) -> None:
        """Decide beside another catalogue from now on; its examples are embedded in a thread, and requests go on."""
        self.catalogue = catalogue
        for name, held in list(self.loaded.items()):
            index = held.version.catalogue
            if index is not None and index.catalogue is catalogue:
                continue
            made = await asyncio.to_thread(held.beside, catalogue)
            if self.loaded.get(name) is held:
                self.loaded[name] = made

    async def load(self, files: VersionFiles) -> HeldVersion:
        """Load a version in a thread, once however many ask for it at the same time; one that is held stays.

        Raises ArtifactError where its files are damaged.
        """
        if (held := self.loaded.get(files.name)) is not None and held.digest == files.digest:
            self.loaded.move_to_end(files.name)
            return held
        if (loading := self._loading.get(files.name)) is None:
            loading = asyncio.ensure_future(self._load(files))
            self._loading[files.name] = loading
            loading.add_done_callback(lambda _: self._loading.pop(files.name, None))
        return await asyncio.shield(loading)

    async def fetch(self, name: str) -> HeldVersion:
        """A version that nobody has announced here; PolicyUnavailableError where it cannot be had."""
        if self._failed.get(name, 0.0) > time.monotonic():
            raise PolicyUnavailableError(f"version {name} could not be loaded here a moment ago")
        files = None if self.find_files is None else await self.find_files(name)
        if files is None:
            raise PolicyUnavailableError(f"version {name} is not held here, and nobody knows its files")
        try:
            return await self.load(files)
        except Exception as error:
            self._failed[name] = time.monotonic() + FAILED_FOR_S
            raise PolicyUnavailableError(f"version {name} cannot be loaded here: {error}") from error

    async def _load(self, files: VersionFiles) -> HeldVersion:
        load = HeldVersion.load
        held = await asyncio.to_thread(
            load, files, novel_to_top=self.novel_to_top, clock=self.clock, catalogue=self.catalogue
        )
        return self._keep(files.name, held)

    def _keep(self, name: str, held: HeldVersion) -> HeldVersion:
        if (before := self.loaded.get(name)) is not None:
            before.let_go()
        self.loaded[name] = held
        self.loaded.move_to_end(name)
        while len(self.loaded) > MOST_VERSIONS:
            self.loaded.popitem(last=False)[1].let_go()
        return held
