"""The controller switches every replica, notes the switch in the store, and takes up where it was killed.

The module under test imports ray.serve: inside, never above.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete

from router_models.errors import ArtifactError, RegistryError
from router_models.versions.registry import set_review
from router_models.versions.review import review_tags
from serve_graph.errors import PolicyUnavailableError, StoreUnavailableError
from serve_graph.policy.served_version import NONE, ServedVersion
from serve_graph.policy.serving_version import serving_version
from serve_graph.records.schema import SERVED_VERSIONS
from serve_graph.records.served_versions import read_served, write_served
from tests.fixtures.registry import echo_graph, sealed_version
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.cluster.controllers import Cluster

if TYPE_CHECKING:
    from serve_graph.cluster.controller_deployment import ControllerDeployment

NOW = datetime.now(UTC)


async def served_by(controller: ControllerDeployment) -> tuple[int, str]:
    current = await controller.current()
    assert current is not None
    return current.epoch, current.name


async def test_a_switch_is_loaded_by_all_then_noted_then_taken(cluster: Cluster) -> None:
    controller = cluster.controller()
    assert await controller.current() is None, "not before it knows what was served"
    assert not await controller.look()
    assert await served_by(controller) == (1, cluster.first.name)
    cluster.promote(cluster.second.number)
    assert await controller.look()
    new = cluster.second.name
    assert sorted(cluster.told[:2]) == [("router", "prepare", new), ("verifier", "prepare", new)]
    assert cluster.told[2:] == [("ingress", "take", new)]
    assert await served_by(controller) == (2, new)
    row = await read_served(controller.store, cluster.first.model)
    assert row is not None
    assert (row.epoch, row.version, row.start) == (2, new, "start-1")
    files = await controller.files(cluster.first.name)
    assert files is not None, "requests under way may still ask for it"


async def test_told_that_the_registry_has_changed_it_looks_at_once(cluster: Cluster) -> None:
    cluster.config = cluster.config.model_copy(
        update={"policy": cluster.config.policy.model_copy(update={"follow_s": 3600.0})}
    )
    controller = cluster.controller(alone=True)
    while await controller.current() is None:
        await asyncio.sleep(0.01)
    await controller.look()  # after its own first one
    cluster.promote(cluster.second.number)
    await asyncio.sleep(0.3)
    assert (await served_by(controller))[1] == cluster.first.name, "it looks again in an hour"
    await controller.changed()
    async with asyncio.timeout(30):
        while (await served_by(controller))[1] != cluster.second.name:
            await asyncio.sleep(0.01)


async def test_ingress_replicas_load_it_where_they_decide_themselves(cluster: Cluster) -> None:
    policy = cluster.config.policy.model_copy(update={"placement": "ingress"})
    cluster.config = cluster.config.model_copy(update={"policy": policy})
    controller = cluster.controller()
    await controller.look()
    cluster.promote(cluster.second.number)
    assert await controller.look()
    new = cluster.second.name
    assert cluster.told == [("ingress", "prepare", new), ("ingress", "take", new)]


async def test_a_running_graph_takes_what_is_promoted_by_itself(cluster: Cluster) -> None:
    controller = cluster.controller(alone=True)
    cluster.promote(cluster.second.number)
    async with asyncio.timeout(60):
        while ("ingress", "take", cluster.second.name) not in cluster.told:
            await asyncio.sleep(0.01)
    assert controller.served.name == cluster.second.name


async def test_a_killed_controller_resumes_what_its_start_had_switched_to(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    begun = controller.served
    cluster.promote(cluster.second.number)
    await controller.look()
    await cluster.kill(controller)
    again = cluster.controller()
    again.served = replace(begun, epoch=0)  # as a replica that Ray restarts is built: with what the graph began with
    cluster.told.clear()
    assert not await again.look()
    assert await served_by(again) == (2, cluster.second.name)
    assert cluster.told == []


async def test_a_new_start_goes_by_the_registry_in_a_later_epoch(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    await cluster.kill(controller)
    cluster.promote(cluster.second.number)
    later = cluster.controller("start-2")
    await later.look()
    assert await served_by(later) == (2, cluster.second.name)


async def test_two_controllers_cannot_both_switch(cluster: Cluster) -> None:
    one = cluster.controller()
    await one.look()
    two = cluster.controller()
    await two.look()
    cluster.promote(cluster.second.number)
    assert await one.look()
    cluster.told.clear()
    with pytest.raises(StoreUnavailableError, match="another controller"):
        await two.look()
    assert all(method == "prepare" for _, method, _ in cluster.told), "no replica takes what was not noted"
    await two.look()
    assert await served_by(two) == (2, cluster.second.name)


async def test_a_switch_that_the_store_does_not_take_is_tried_again(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    cluster.promote(cluster.second.number)
    store, controller.store = controller.store, Broken()  # type: ignore[assignment]
    with pytest.raises(StoreUnavailableError):
        await controller.look()
    assert await served_by(controller) == (1, cluster.first.name)
    controller.store = store
    assert await controller.look()
    assert await served_by(controller) == (2, cluster.second.name)


async def test_a_rejected_version_leaves_the_last_tier(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    set_review(cluster.first, review_tags("rejected", "anna", NOW, "looked at it again"))
    assert await controller.look()
    assert await served_by(controller) == (2, NONE)
    assert cluster.told == [("ingress", "take", NONE)]


async def test_of_two_writers_of_a_row_one_is_refused(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    row = controller.row
    assert row is not None
    assert await write_served(controller.store, replace(row, epoch=2), row)
    assert not await write_served(controller.store, replace(row, epoch=2, version="router/9"), row)
    assert not await write_served(controller.store, replace(row, epoch=3), None)


async def test_what_is_rejected_while_the_controller_is_away_is_dropped_when_it_is_back(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    begun = controller.served
    cluster.promote(cluster.second.number)
    await controller.look()
    await cluster.kill(controller)
    set_review(cluster.second, review_tags("rejected", "anna", NOW, "looked at it again"))
    again = cluster.controller()
    again.served = replace(begun, epoch=0)
    assert await again.look()
    assert await served_by(again) == (3, NONE)
    assert cluster.told[-1] == ("ingress", "take", NONE)


async def test_nothing_is_said_to_be_served_while_a_registry_is_away_after_a_restart(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    begun = controller.served
    cluster.promote(cluster.second.number)
    await controller.look()
    await cluster.kill(controller)
    database = Path(cluster.config.registry_uri.removeprefix("sqlite:///"))
    database.rename(database.with_suffix(".away"))
    again = cluster.controller()
    again.served = replace(begun, epoch=0)
    with pytest.raises(RegistryError):
        await again.look()
    assert await again.current() is None
    database.with_suffix(".away").rename(database)
    await again.look()
    assert await served_by(again) == (2, cluster.second.name)


async def test_epochs_go_on_where_the_row_was_lost(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    cluster.promote(cluster.second.number)
    await controller.look()
    await cluster.kill(controller)
    async with controller.store.writing() as connection:
        await connection.execute(delete(SERVED_VERSIONS))
    again = cluster.controller()
    await again.look()
    assert await served_by(again) == (3, cluster.second.name), "a replica takes nothing older than what it has"


@pytest.mark.parametrize("killed", [False, True])
async def test_epochs_go_on_where_a_backup_was_restored_under_a_running_graph(cluster: Cluster, killed: bool) -> None:
    controller = cluster.controller()
    await controller.look()
    before = await read_served(controller.store, controller.model)
    for number in (cluster.second.number, cluster.first.number, cluster.second.number):
        cluster.promote(number)
        await controller.look()
    late = await read_served(controller.store, controller.model)
    assert before is not None
    assert late is not None
    assert (before.epoch, late.epoch, cluster.epoch) == (1, 4, 4)
    assert await write_served(controller.store, before, late)  # what a restore of the first backup does
    if killed:
        await cluster.kill(controller)
        controller = cluster.controller()
    cluster.promote(cluster.first.number)
    with contextlib.suppress(StoreUnavailableError):  # a store that has another row is read again
        await controller.look()
    await controller.look()
    assert controller.served.name == cluster.first.name
    assert controller.served.epoch == cluster.epoch > late.epoch, "replicas take nothing older than what they have"


async def test_a_version_that_no_replica_can_load_is_not_switched_to(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    cluster.promote(cluster.second.number)
    cluster.fails.add(("verifier", cluster.second.name))
    with pytest.raises(PolicyUnavailableError, match="could not be loaded by any replica of verifier"):
        await controller.look()
    assert await controller.look()
    assert controller.served.name == cluster.first.name
    assert "could not be loaded" in (controller.served.note or "")
    assert not await controller.look()
    set_review(cluster.first, review_tags("rejected", "anna", NOW, "looked at it again"))
    assert await controller.look()
    assert controller.served.name == NONE, "what was rejected goes, although nothing else can be loaded"


async def test_a_version_is_switched_to_once_router_and_verifier_are_back(cluster: Cluster) -> None:
    controller = cluster.controller()
    await controller.look()
    cluster.promote(cluster.second.number)
    cluster.away = {"router", "verifier"}
    with pytest.raises(PolicyUnavailableError, match="no replica of router and verifier has said"):
        await controller.look()
    assert await served_by(controller) == (1, cluster.first.name)
    cluster.away.clear()
    assert await controller.look()
    assert await served_by(controller) == (2, cluster.second.name)


async def test_an_exception_of_a_replicas_own_is_a_reply_and_an_outage_or_a_late_one_is_none() -> None:
    from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
    from ray.serve.handle import DeploymentBroadcastResponse

    from serve_graph.cluster.replicas.broadcast import ApplicationReplicas

    class Call:
        """A call of one replica, which replies, raises, or says nothing for long."""

        def __init__(self, reply: Any) -> None:
            self.reply = reply

        async def get_async(self) -> Any:
            if self.reply == "silent":
                await asyncio.sleep(60)
            if isinstance(self.reply, BaseException):
                raise self.reply
            return self.reply

    class Handle:
        def broadcast(self, method: str, argument: object) -> Any:
            async def called() -> Any:
                return [Call(reply) for reply in replies]

            return DeploymentBroadcastResponse(called(), None)

    raised = RayTaskError("prepare", "no trace", ArtifactError("damaged")).as_instanceof_cause()
    replies = [True, raised, ActorDiedError(), ActorUnavailableError("away", None), TimeoutError(), "silent", None]
    replicas = ApplicationReplicas("router")
    replicas._handle = Handle()  # type: ignore[assignment]
    assert await replicas.all("prepare", None, 0.1) == [True, raised, None]
    replies = []
    assert await replicas.all("prepare", None, 0.1) == []


async def test_a_new_ingress_replica_answers_from_the_last_tier_until_it_is_told(tmp_path: Path) -> None:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    class Controller:
        """A controller that does not know yet."""

        told: ServedVersion | None = None

        async def current(self) -> ServedVersion | None:
            return self.told

    config, controller = echo_graph(tmp_path), Controller()
    folder = sealed_version(config, tmp_path / "1", NOW)
    begun = ServedVersion.of(serving_version(config, folder), config, epoch=1)
    handle: Any = DirectHandle(controller)
    engine: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.tiers}  # type: ignore[arg-type]
    ingress = IngressDeployment(config, begun, engine, handle, handle, b"x" * 16, controller=handle)
    assert begun.name != NONE
    background = asyncio.ensure_future(ingress.background())
    try:
        assert (ingress.serving.version.epoch, ingress.service.context.version) == (0, NONE)
        assert (await ingress.readiness())["ready"] is False
        controller.told = begun
        async with asyncio.timeout(20):
            while ingress.serving.version.epoch == 0:
                await asyncio.sleep(0.05)
        assert ingress.service.context.version == begun.name
        assert await ingress.take(replace(begun, epoch=1)) is False
    finally:
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
        ingress.sink.close()
        await ingress.store.close()


class Broken:
    """A store that is gone."""

    def writing(self) -> Any:
        raise OSError("gone")

    reading = writing

    async def close(self) -> None:
        pass
