"""A rollout while the registry, router, verifier or evidence is away, or a replica cannot load the candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_models.errors import RegistryError
from serve_graph.errors import PolicyUnavailableError
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.policy.rollout.transitions import Happened
from tests.unit.serve_graph.cluster.rollouts.trial import ALIKE, NOW, WORSE, Trial, named, unreachable


async def test_nothing_moves_while_the_registry_is_away(trial: Trial) -> None:
    await trial.begin(5, 50)
    database = Path(trial.cluster.config.registry_uri.removeprefix("sqlite:///"))
    database.rename(database.with_suffix(".away"))
    with pytest.raises(RegistryError):
        await trial.pass_time(61)
    assert trial.taken == (trial.cluster.first.name, 0.05)
    database.unlink(missing_ok=True)
    database.with_suffix(".away").rename(database)
    await trial.pass_time(1)
    assert trial.taken == (trial.cluster.first.name, 0.5)


async def test_late_replicas_learn_what_is_served_although_the_rollout_cannot_be_known(trial: Trial) -> None:
    await trial.begin(50)
    await trial.cluster.kill(trial.controller)
    again = trial.start()
    again.rollouts.look = unreachable  # type: ignore[method-assign]
    with pytest.raises(RegistryError):
        await again.look()
    current = await again.current()
    assert current is not None
    assert current.name == trial.cluster.first.name


@pytest.mark.parametrize("against", ["evidence", "an alarm"])
async def test_a_bad_candidate_is_taken_back_while_the_registry_is_away(trial: Trial, against: str) -> None:
    await trial.begin(50)
    database = Path(trial.cluster.config.registry_uri.removeprefix("sqlite:///"))
    database.rename(database.with_suffix(".away"))
    if against == "evidence":
        trial.pairs = [WORSE] * 300
    else:
        alarm = Alarm(trial.cluster.second.name, "revoked", "overall", NOW.isoformat(), "bad answers", acts=True)
        await AlarmTable(trial.controller.store).raise_all([alarm])
    assert await trial.controller.look()
    assert await trial.at() == ("Degraded", 0.0)
    assert trial.taken == (trial.cluster.first.name, None)


async def test_a_candidate_that_no_replica_can_load_is_not_tried(trial: Trial) -> None:
    trial.cluster.fails.add(("verifier", trial.cluster.second.name))
    await trial.begin(50)
    assert await trial.at() == ("Degraded", 0.0)
    assert "could not be loaded by any replica of verifier" in (await trial.now()).reason
    assert trial.taken == (trial.cluster.first.name, None)


async def test_a_candidate_that_no_replica_can_load_is_not_promoted_by_a_person_either(trial: Trial) -> None:
    first, second = trial.cluster.first, trial.cluster.second
    await trial.controller.look()
    trial.cluster.away.add("router")
    with pytest.raises(PolicyUnavailableError):
        await trial.begin(50)
    await trial.person(Happened.PROMOTE)
    trial.cluster.away.clear()
    trial.cluster.fails.add(("verifier", second.name))
    for _ in range(3):
        await trial.controller.look()
    assert await trial.at() == ("Degraded", 0.0)
    assert (named(trial.cluster), trial.taken) == (first.name, (first.name, None))


async def test_a_step_counts_on_where_evidence_was_lost(trial: Trial) -> None:
    await trial.begin(5, 50, minimum=10)
    trial.pairs = trial.came([ALIKE] * 9)
    await trial.controller.look()
    trial.pairs = trial.pairs[:3]
    await trial.pass_time(61)
    assert await trial.at() == ("Progressing", 0.05)
    trial.pairs = trial.pairs + trial.came([ALIKE] * 7)
    await trial.pass_time(1)
    assert await trial.at() == ("Progressing", 0.5)


@pytest.mark.parametrize("deployment", ["router", "verifier"])
async def test_a_canary_outlives_an_outage_of_router_or_verifier(trial: Trial, deployment: str) -> None:
    await trial.controller.look()
    trial.cluster.away.add(deployment)
    with pytest.raises(PolicyUnavailableError, match=f"no replica of {deployment} has said"):
        await trial.begin(50)
    assert await trial.at() == ("Progressing", 0.5)
    trial.cluster.away.clear()
    await trial.controller.look()
    assert trial.taken == (trial.cluster.first.name, 0.5)
