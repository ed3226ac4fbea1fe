"""Readiness over handles that need no cluster. Importing it imports ray.serve: inside, never above."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from serve_graph.config.graph import GraphConfig
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.config.tiers.parts import AdmissionConfig
from serve_graph.config.tiers.scaling import ScalingConfig

PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))


class Replica:
    """A tier's handle whose `counters` gives `reply`, raises it, or never comes back ("silence")."""

    def __init__(self, reply: Any = None) -> None:
        self.reply = {} if reply is None else reply
        self.asked = 0
        self.cancelled = 0

    def __getattr__(self, name: str) -> "Replica":
        assert name in ("counters", "options"), name
        return self

    def remote(self) -> "Replica":
        self.asked += 1
        return self

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if self.reply == "silence":
            await asyncio.sleep(3600)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def readiness() -> Callable[..., Any]:
    """A TierReadiness over replicas by tier name; `now` is its clock."""
    from serve_graph.cluster.readiness import TierReadiness
    from serve_graph.cluster.tier_client import HandleEngine

    def make(now: list[float] | None = None, min_replicas: int = 1, **replicas: Replica) -> Any:
        moment = now or [100.0]
        scaling = ScalingConfig(min_replicas=min_replicas)
        engines = {
            name: HandleEngine(
                replica,  # type: ignore[arg-type]
                EchoTierConfig(
                    engine="echo", name=name, price=PRICE, scaling=scaling, admission=AdmissionConfig(max_in_flight=1)
                ),
            )
            for name, replica in replicas.items()
        }
        return TierReadiness(replicas, engines, wait_s=0.5, clock=lambda: moment[0])  # type: ignore[arg-type]

    return make


async def test_each_tier_is_what_its_replicas_say(readiness: Callable[..., Any]) -> None:
    silent = Replica("silence")
    made = readiness(well=Replica(), dead=Replica(RuntimeError("the actor died")), silent=silent)
    assert await made.tiers() == {"well": True, "dead": False, "silent": False}
    assert silent.cancelled == 1


async def test_a_tier_whose_api_refuses_its_key_is_named_until_it_does_not(readiness: Callable[..., Any]) -> None:
    from serve_graph.cluster.readiness import KEEP_S

    refusing, now = Replica({"deployments_refusing": 1.0}), [100.0]
    made = readiness(now, cheap=Replica(), frontier=refusing)
    assert await made.tiers() == {"cheap": True, "frontier": True}
    assert list(made.faults) == ["frontier"]
    assert "see its log" in made.faults["frontier"]
    refusing.reply, now[0] = {"deployments_refusing": 0.0}, 100.0 + KEEP_S
    await made.tiers()
    assert made.faults == {}


async def test_replicas_are_asked_once_a_second_however_many_ask_here(readiness: Callable[..., Any]) -> None:
    replica, now = Replica(), [100.0]
    made = readiness(now, cheap=replica)
    await asyncio.gather(*(made.tiers() for _ in range(50)))
    assert replica.asked == 1
    replica.reply = RuntimeError("died")
    assert await made.tiers() == {"cheap": True}
    now[0] += 1.0
    assert await made.tiers() == {"cheap": False}
    assert replica.asked == 2


async def test_a_tier_that_may_sleep_is_not_woken(readiness: Callable[..., Any]) -> None:
    replica = Replica()
    assert await readiness(min_replicas=0, cheap=replica).tiers() == {"cheap": None}
    assert replica.asked == 0


async def test_a_full_tier_that_still_answers_is_not_taken_for_dead(readiness: Callable[..., Any]) -> None:
    now = [100.0]
    made = readiness(now, cheap=Replica("silence"))
    engine = made.engines["cheap"]
    async with engine.gate.place(60.0):
        engine.answered_at = 95.0
        assert await made.tiers() == {"cheap": True}
        now[0] = 120.0
        assert await made.tiers() == {"cheap": False}, "it has not answered for long"


async def test_a_full_queue_is_a_sign_of_life(readiness: Callable[..., Any]) -> None:
    from ray.serve.exceptions import BackPressureError

    assert await readiness(cheap=Replica(BackPressureError(1, 1))).tiers() == {"cheap": True}


@pytest.mark.parametrize(("down", "ready"), [("cheap", True), ("frontier", False), (None, True)])
async def test_the_graph_is_ready_while_its_safe_tier_answers(tmp_path: Any, down: str | None, ready: bool) -> None:
    from serve_graph.cluster.ingress_deployment import IngressDeployment
    from serve_graph.policy.served_policy import ServedPolicy
    from serve_graph.policy.served_version import ServedVersion

    tiers = [EchoTierConfig(engine="echo", name=name, price=PRICE) for name in ("cheap", "frontier")]
    config = GraphConfig(tiers=tuple(tiers), state_folder=tmp_path)
    handles: Any = {name: Replica(RuntimeError("died") if name == down else None) for name in config.tier_names}
    begun = ServedVersion(1, ServedPolicy.of(None, "none", "none", config))
    ingress = IngressDeployment(config, begun, handles, None, None, b"x" * 16)
    try:
        state = await ingress.readiness()
        assert state["ready"] is ready, "one that starts waits for the safe tier"
        assert state["tiers_ready"] == {name: name != down for name in config.tier_names}
    finally:
        ingress.sink.close()
        await ingress.store.close()


@pytest.mark.parametrize(
    ("answers", "ready"),
    [({"cheap": True, "frontier": False}, True), ({"cheap": None, "frontier": False}, True),
     ({"cheap": False, "frontier": False}, False), ({"cheap": False, "frontier": True}, True)],
)  # fmt: skip
async def test_a_graph_that_loses_its_safe_tier_goes_on_with_the_others(
    tmp_path: Any, answers: dict[str, bool | None], ready: bool
) -> None:
    """Else one lost node takes every worker out of the endpoint, and nobody is answered."""
    from serve_graph.cluster.readiness import readiness_report
    from serve_graph.policy.served_policy import ServedPolicy
    from serve_graph.policy.served_version import ServedVersion
    from serve_graph.policy.validity import CertificateStatus

    tiers = [EchoTierConfig(engine="echo", name=name, price=PRICE) for name in ("cheap", "frontier")]
    config = GraphConfig(tiers=tuple(tiers), state_folder=tmp_path)
    version = ServedVersion(1, ServedPolicy.of(None, "none", "none", config))
    status = CertificateStatus(version.policy.validity, version.policy.name)
    told = version, status, config.tier_names, "frontier", answers
    assert readiness_report(*told, seen={"cheap", "frontier"})["ready"] is ready
    assert readiness_report(*told, seen={"cheap"})["ready"] is (answers["frontier"] is True)


async def test_the_tiers_that_have_answered_are_remembered(readiness: Callable[..., Any]) -> None:
    lost, now = Replica(), [100.0]
    made = readiness(now, cheap=Replica(RuntimeError("died")), frontier=lost)
    await made.tiers()
    lost.reply, now[0] = RuntimeError("died"), 200.0
    assert await made.tiers() == {"cheap": False, "frontier": False}
    assert made.seen == {"frontier"}
