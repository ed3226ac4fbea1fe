"""What is served while the graph runs follows the registry, and never falls to a version that may not be served."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from router_models.versions.registry import RegisteredVersion, set_alias, set_review
from router_models.versions.review import review_tags
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.follower import RegistryFollower, follows_registry
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.policy.serving_version import serving_version
from tests.fixtures.registry import echo_graph, registered_version

NOW = datetime.now(UTC)


class Registry:
    """Two approved versions, the first of them `stable`, and who follows them."""

    def __init__(self, folder: Path, new_registry: Callable[[Path], str]) -> None:
        self.graph = echo_graph(folder)
        new_registry(Path(self.graph.registry_uri.removeprefix("sqlite:///")))
        self.first = registered_version(self.graph, folder / "1", NOW, alias="stable")
        self.second = registered_version(self.graph, folder / "2", NOW, 0.6)
        self.follower = RegistryFollower(self.graph)
        self.served = ServedVersion.of(serving_version(self.graph), self.graph)

    def look(self) -> str | None:
        """The name of what is served instead from now on, None where nothing changes."""
        found = self.follower.look(self.served)
        self.served = found or self.served
        return found.name if found else None

    def promote(self, version: RegisteredVersion) -> None:
        set_alias(self.graph.registry_uri, version.model, "stable", version.number)

    def review(self, version: RegisteredVersion, state: Literal["approved", "rejected"]) -> None:
        set_review(version, review_tags(state, "anna", NOW, "looked at it again"))


@pytest.fixture
def registry(tmp_path: Path, new_registry: Callable[[Path], str]) -> Registry:
    return Registry(tmp_path, new_registry)


def test_what_is_promoted_is_served_and_what_is_rolled_back_as_well(registry: Registry) -> None:
    assert registry.look() is None, "it is served already"
    registry.promote(registry.second)
    assert registry.look() == registry.second.name
    assert registry.served.files is not None
    assert Path(registry.served.files.folder).is_dir()
    assert registry.look() is None
    registry.promote(registry.first)
    assert registry.look() == registry.first.name


def test_a_version_that_may_not_be_served_takes_the_place_of_none_that_may(registry: Registry) -> None:
    registry.review(registry.second, "rejected")
    registry.promote(registry.second)
    assert registry.look() == registry.first.name
    assert registry.served.note is not None
    assert f"{registry.first.name} stays served" in registry.served.note
    assert registry.second.name in registry.served.note
    registry.review(registry.first, "rejected")
    assert registry.look() == NONE
    assert "rejected" in registry.served.policy.promise


def test_a_damaged_target_keeps_no_rejected_version_in_service(registry: Registry) -> None:
    registry.look()
    folder = registry.second.folder(registry.graph.state_folder.resolve() / "versions")
    (folder / "policy.json").write_text("{}")
    registry.promote(registry.second)
    assert registry.look() == registry.first.name
    assert "policy.json" in (registry.served.note or "")
    registry.review(registry.first, "rejected")
    assert registry.look() == NONE


def test_a_registry_that_is_not_there_any_more_changes_nothing(registry: Registry) -> None:
    registry.look()
    database = Path(registry.graph.registry_uri.removeprefix("sqlite:///"))
    database.rename(database.with_suffix(".away"))
    assert registry.look() is None
    assert registry.served.name == registry.first.name


def test_what_is_rejected_while_it_is_served_is_served_no_more_until_it_is_approved_again(registry: Registry) -> None:
    registry.look()
    registry.review(registry.first, "rejected")
    assert registry.look() == NONE
    assert registry.look() is None
    registry.review(registry.first, "approved")
    assert registry.look() == registry.first.name


def test_while_the_registry_is_down_everything_stays(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    database = Path(registry.graph.registry_uri.removeprefix("sqlite:///"))
    held = database.read_bytes()
    registry.look()
    registry.promote(registry.second)
    database.write_bytes(b"this is no database")
    assert registry.look() is None
    assert f"{registry.first.name} stays served" in caplog.text
    database.write_bytes(held)
    assert registry.look() is None


def test_a_first_version_is_found_by_a_graph_that_had_none(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    graph = echo_graph(tmp_path)
    new_registry(Path(graph.registry_uri.removeprefix("sqlite:///")))
    follower, served = RegistryFollower(graph), ServedVersion.of(serving_version(graph), graph)
    assert served.name == NONE
    assert follower.look(served) is None
    made = registered_version(graph, tmp_path / "1", NOW, alias="stable")
    found = follower.look(served)
    assert found is not None
    assert found.name == made.name


@pytest.mark.parametrize(
    ("policy", "follows"),
    [({}, True), ({"version": "none"}, False), ({"version": "builtin"}, False), ({"follow_s": None}, False)],
)
def test_only_a_registered_version_is_followed(tmp_path: Path, policy: dict[str, object], follows: bool) -> None:
    graph: GraphConfig = echo_graph(tmp_path, **policy)
    assert follows_registry(graph) is follows
