"""A replica holds several versions by name, loads those that come beside its work, and lets the oldest go.

The module under test imports ray.serve: inside, never above.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router_models.errors import RegistryError
from router_models.types import Completion, Query
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.held_versions import MOST_VERSIONS, HeldVersions
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.serving_version import serving_version
from serve_graph.policy.validity import Validity
from tests.fixtures.registry import echo_graph, registered_version, sealed_version

NOW = datetime.now(UTC)
Files = Callable[[int], VersionFiles]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Versions by number; version n says .1·n of every prompt, and routes it to cheap from .5 on."""
    folder = tmp_path_factory.mktemp("versions")
    graph = echo_graph(folder)

    def made(n: int) -> VersionFiles:
        path = folder / str(n)
        if not path.exists():
            sealed_version(graph, path, NOW, p_ok=n / 10)
        return VersionFiles(f"router/{n}", str(path), Validity())

    return made


async def test_each_request_is_decided_and_judged_by_the_version_it_names(files: Files) -> None:
    from serve_graph.cluster.policy_deployment import PolicyDeployment

    replica, query = PolicyDeployment(files(7)), Query.from_prompt("why?")
    assert await replica.prepare(files(2))
    decisions = [await replica.decide(query, name) for name in ("router/7", "router/2", "router/7")]
    assert [d.tier for d in decisions] == ["cheap", "frontier", "cheap"]
    assert [d.p_cheap_ok for d in decisions] == pytest.approx([0.7, 0.2, 0.7])
    assert (await replica.judge(query, Completion("yes"), decisions[0], "router/7")).action == "accepted"


async def test_a_version_that_was_not_announced_is_asked_for_once(files: Files) -> None:
    asked: list[str] = []

    async def find(name: str) -> VersionFiles | None:
        asked.append(name)
        await asyncio.sleep(0)
        return files(int(name[-1])) if name != "router/9" else None

    held = HeldVersions(find, novel_to_top=True)
    first, second = await asyncio.gather(held.fetch("router/2"), held.fetch("router/2"))
    assert first is second
    with pytest.raises(PolicyUnavailableError, match="router/9"):
        await held.fetch("router/9")
    with pytest.raises(PolicyUnavailableError, match="router/2"):
        await HeldVersions(None, novel_to_top=True).fetch("router/2")


async def test_a_version_that_cannot_be_loaded_is_not_tried_for_every_request(files: Files, tmp_path: Path) -> None:
    asked: list[str] = []

    async def find(name: str) -> VersionFiles:
        asked.append(name)
        return VersionFiles(name, str(tmp_path), Validity())

    held = HeldVersions(find, novel_to_top=True)
    for _ in range(5):
        with pytest.raises(PolicyUnavailableError, match="router/8"):
            await held.fetch("router/8")
    assert asked == ["router/8"]


async def test_a_name_with_other_files_is_loaded_anew(files: Files) -> None:
    held = HeldVersions(None, novel_to_top=True)
    first = await held.load(files(2))
    digest = first.version.loaded_digest
    assert (await held.load(replace(files(2), digest=digest))).version is not first.version
    other = replace(files(7), name="router/2", digest=None)
    assert (await held.load(other)).version.decide(Query.from_prompt("why?")).p_cheap_ok == pytest.approx(0.7)


async def test_the_version_announced_first_goes(files: Files) -> None:
    held = HeldVersions(None, novel_to_top=True)
    for n in range(1, MOST_VERSIONS + 1):
        await held.load(files(n))
    await held.load(files(1))  # rolled back to
    await held.load(files(MOST_VERSIONS + 1))
    assert list(held.loaded) == [f"router/{n}" for n in (3, 1, 4)]


async def test_a_damaged_version_is_not_held(files: Files, tmp_path: Path) -> None:
    held = HeldVersions(None, novel_to_top=True)
    with pytest.raises(Exception, match="manifest"):
        await held.load(VersionFiles("router/8", str(tmp_path), Validity()))
    assert not held.loaded


async def test_every_node_fetches_its_own_copy_and_keeps_it_while_the_registry_is_away(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    """The head looked the version up; its folder is not there on the other nodes."""
    graph = echo_graph(tmp_path / "head")
    new_registry(Path(graph.registry_uri.removeprefix("sqlite:///")))
    registered_version(graph, tmp_path / "sealed", NOW, alias="stable")
    looked_up = ServedVersion.of(serving_version(graph), graph).files
    assert looked_up is not None
    assert looked_up.source is not None
    assert graph.registry_uri not in repr(looked_up), "it may hold a password"

    def on(node: str) -> VersionFiles:
        assert looked_up is not None
        assert looked_up.source is not None
        source = replace(looked_up.source, copies=str(tmp_path / node))
        return replace(looked_up, folder="/of/the/head/alone", source=source)

    query = Query.from_prompt("why?")
    for node in ("worker-1", "worker-2"):
        held = HeldVersions(None, novel_to_top=True)
        assert (await held.load(on(node))).version.decide(query).p_cheap_ok == pytest.approx(0.7)
        assert len(list((tmp_path / node).iterdir())) == 1

    shutil.rmtree(tmp_path / "head")
    (damaged,) = (tmp_path / "worker-2").glob("*/policy.json")
    damaged.write_text("{}")
    again = HeldVersions(None, novel_to_top=True)
    assert (await again.load(on("worker-1"))).version.decide(query).tier == "cheap"
    for node in ("worker-2", "worker-3"):
        with pytest.raises(RegistryError):
            await HeldVersions(None, novel_to_top=True).load(on(node))
