"""The controller drives a rollout by its rules, resumes where it was killed, and moves nothing that it cannot know.

The modules under test import ray.serve: inside, never above.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from router_models.errors import RegistryError
from router_models.versions.registry import find_version, set_review
from router_models.versions.review import review_tags
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.transitions import Happened
from serve_graph.policy.served_version import ServedVersion
from tests.unit.serve_graph.cluster.rollouts.trial import ALIKE, NOW, WORSE, Trial, named, unreachable


async def test_a_step_passes_when_its_pause_is_over_and_its_minimum_reached(trial: Trial) -> None:
    await trial.begin(5, 50, minimum=10)
    first, second = trial.cluster.first.name, trial.cluster.second.name
    assert trial.cluster.told[-5:-1] == [
        (who, "prepare", v) for v in (first, second) for who in ("router", "verifier")
    ]
    assert trial.taken == (first, 0.05), "both versions are loaded before a replica takes the canary"
    await trial.pass_time(61)
    assert trial.taken == (first, 0.05), "nothing was compared yet"
    trial.pairs = trial.came([ALIKE] * 10)
    await trial.pass_time(1)
    assert await trial.at() == ("Progressing", 0.5)
    assert trial.taken == (first, 0.5)
    assert await trial.actions() == ["canary", "step"]
    await trial.pass_time(61)
    assert await trial.at() == ("Progressing", 0.5), "the last step waits for evidence or a person"
    assert (await trial.now()).evidence["step_pairs"] == 0, "requests of the step before do not count in this one"


async def test_evidence_promotes_after_the_last_step_and_every_write_comes_before_what_follows(trial: Trial) -> None:
    await trial.begin(50, minimum=1)
    trial.pairs = [ALIKE] * 3000
    await trial.pass_time(61)
    cluster = trial.cluster
    assert await trial.at() == ("Promoting", 0.5)
    assert named(cluster) == cluster.first.name, "it is written before the alias moves"
    await trial.pass_time(1)
    assert named(cluster) == cluster.second.name
    await trial.pass_time(1)
    assert await trial.at() == ("Healthy", 1.0)
    assert trial.taken == (cluster.second.name, None)
    assert await trial.actions() == ["canary", "promoting", "promote"]
    replaced = find_version(cluster.config.registry_uri, cluster.first.model, "stable")
    assert replaced is not None
    assert replaced.tags["replaced"] == cluster.first.number, "`versions rollback` goes back"


async def test_a_worse_candidate_is_taken_back_by_evidence_paused_or_not(trial: Trial) -> None:
    await trial.begin(50)
    await trial.person(Happened.PAUSE)
    trial.pairs = [WORSE] * 300
    assert await trial.controller.look()
    assert await trial.at() == ("Degraded", 0.0)
    ended = await trial.now()
    assert "quality_worse (overall)" in ended.reason
    assert ended.evidence["verdict"] == "roll_back"
    assert trial.taken == (trial.cluster.first.name, None)
    assert not await trial.controller.look()


@pytest.mark.parametrize("killed_at", ["step", "promoting", "alias moved", "served"])
async def test_a_killed_controller_resumes_wherever_it_was(trial: Trial, killed_at: str) -> None:
    begun = await trial.begin(5, 50)
    cluster, before = trial.cluster, trial.controller.served
    epoch = before.epoch
    if killed_at == "step":
        await trial.pass_time(61)
    else:
        await trial.person(Happened.PROMOTE)
    if killed_at in ("alias moved", "served"):
        await trial.controller.look()
        assert named(cluster) == cluster.second.name
    if killed_at == "served":
        trial.controller.rollouts.look = unreachable  # type: ignore[method-assign]
        with pytest.raises(RegistryError):
            await trial.controller.look()
        assert trial.taken[0] == cluster.second.name
    await cluster.kill(trial.controller)
    again = trial.start()
    again.served = replace(before, epoch=0, rollout=None)
    for _ in range(4):
        await again.look()
    assert again.served.epoch > epoch
    if killed_at == "step":
        assert await trial.at() == ("Progressing", 0.5)
        assert trial.taken == (cluster.first.name, 0.5)
        assert await trial.actions() == ["canary", "step"], "no step is passed twice"
    else:
        assert await trial.at() == ("Healthy", 1.0)
        assert trial.taken == (cluster.second.name, None)
        assert await trial.actions() == ["canary", "promoting", "promote"]
    assert (await trial.now()).id == begun.id


async def test_nothing_moves_while_an_alarm_stands_against_the_stable_version(trial: Trial) -> None:
    await trial.begin(5, 50)
    alarms = AlarmTable(trial.controller.store)
    stable, candidate = trial.cluster.first.name, trial.cluster.second.name
    await alarms.raise_all([Alarm(stable, "revoked", "overall", NOW.isoformat(), "wrong answers", acts=True)])
    await trial.pass_time(61)
    assert await trial.at() == ("Progressing", 0.05)
    assert "wrong answers" in (await trial.now()).evidence["held"]
    await alarms.lift(stable, "ann", "mended", NOW.isoformat())
    await trial.pass_time(1)
    assert await trial.at() == ("Progressing", 0.5)
    await alarms.raise_all([Alarm(candidate, "revoked", "overall", NOW.isoformat(), "bad answers", acts=True)])
    await trial.pass_time(1)
    assert await trial.at() == ("Degraded", 0.0)
    assert "bad answers" in (await trial.now()).reason


async def test_a_candidate_whose_approval_is_withdrawn_is_tried_no_longer(trial: Trial) -> None:
    await trial.begin(50)
    set_review(trial.cluster.second, review_tags("rejected", "anna", NOW, "looked at it again"))
    assert await trial.controller.look()
    assert await trial.at() == ("Aborted", 0.0)
    assert trial.taken == (trial.cluster.first.name, None)


async def test_a_rollout_ends_when_another_version_is_served_than_it_was_begun_with(trial: Trial) -> None:
    await trial.begin(50)
    set_review(trial.cluster.first, review_tags("rejected", "anna", NOW, "looked at it again"))
    await trial.controller.look()
    assert await trial.at() == ("Aborted", 0.0)
    assert trial.taken == ("none", None)


@pytest.mark.parametrize("way", ["step", "evidence", "person"])
async def test_a_share_that_the_tiers_cannot_carry_is_not_given_and_a_person_is_told_why(
    trial: Trial, way: str
) -> None:
    class Full:
        """Tiers that carry no more."""

        async def fault(self, rollout: Rollout, wanted: float, now: datetime) -> str | None:
            return f"'frontier' is full at {wanted:g}" if wanted > 0.5 else None

    await trial.begin(*((5, 50, 60) if way == "step" else (50,)))
    trial.controller.rollouts.check = Full()  # type: ignore[assignment]
    if way == "person":
        await trial.person(Happened.PROMOTE)
    trial.pairs = trial.came([ALIKE] * (0 if way == "step" else 3000))
    for _ in range(3):
        await trial.pass_time(61)
    assert await trial.at() == ("Paused", 0.5)
    now = await trial.now()
    assert "'frontier' is full at" in now.reason
    assert (now.by, trial.taken, named(trial.cluster)) == (
        "graph", (trial.cluster.first.name, 0.5), trial.cluster.first.name,
    )  # fmt: skip


async def test_what_replicas_shed_and_spend_is_kept_with_the_evidence_that_of_silent_ones_too(trial: Trial) -> None:
    def told(replica: str, compared: int, **shed: int) -> dict[str, Any]:
        counts = {"offered": compared + sum(shed.values()) + 1, "compared": compared, "ungraded": {}, "shed": shed}
        return {**counts, "replica": replica, "spent_usd": "0.7", "budget_usd": "1"}

    await trial.begin(5, 50)
    trial.cluster.tallies = [told("a", 3, busy=2), told("b", 1, budget=4)]
    await trial.pass_time(1)
    trial.cluster.tallies = [told("b", 2, budget=9)]
    await trial.pass_time(1)
    kept = (await trial.now()).evidence["comparing"]
    assert [kept[name] for name in ("offered", "compared", "waiting", "shed")] == [18, 5, 2, {"busy": 2, "budget": 9}]
    assert kept["today"] == {"spent_usd": "0.7", "budget_usd": "1"}


async def test_a_promotion_that_may_not_be_is_paused_for_a_person(trial: Trial) -> None:
    class AsBefore:
        """Whoever looked the candidate up before its approval was withdrawn."""

        def look(self, _: Rollout) -> ServedVersion:
            return candidate

    await trial.begin(50)
    rollout = trial.controller.served.rollout
    assert rollout is not None
    candidate = rollout.candidate
    trial.controller.rollouts.candidates = AsBefore()  # type: ignore[assignment]
    await trial.person(Happened.PROMOTE)
    set_review(trial.cluster.second, review_tags("rejected", "anna", NOW, "looked at it again"))
    await trial.controller.look()
    assert await trial.at() == ("Paused", 0.5)
    assert "not promoted" in (await trial.now()).reason
    assert named(trial.cluster) == trial.cluster.first.name


async def test_a_person_who_moves_the_alias_back_while_it_is_promoted_has_the_last_word(trial: Trial) -> None:
    await trial.begin(50)
    await trial.person(Happened.PROMOTE)
    await trial.controller.look()
    assert named(trial.cluster) == trial.cluster.second.name
    trial.cluster.promote(trial.cluster.first.number)
    await trial.controller.look()
    assert await trial.at() == ("Aborted", 0.0)
    assert named(trial.cluster) == trial.cluster.first.name
    assert trial.taken == (trial.cluster.first.name, None)


async def test_a_shadow_is_loaded_although_nobody_has_approved_it_and_has_no_share(trial: Trial) -> None:
    set_review(trial.cluster.second, {"review": "proposed"})
    await trial.begin()
    assert trial.taken == (trial.cluster.first.name, 0.0)
    await trial.pass_time(1000)
    assert await trial.at() == ("Progressing", 0.0)
    set_review(trial.cluster.second, review_tags("rejected", "anna", NOW, "looked at it again"))
    await trial.controller.look()
    assert (await trial.at(), trial.taken[1]) == (("Aborted", 0.0), None)


async def test_a_weight_and_an_abort_of_a_person_reach_the_replicas(trial: Trial) -> None:
    await trial.begin(5, 50)
    await trial.person(Happened.SET_WEIGHT, weight=0.3)
    await trial.pass_time(1000)
    assert trial.taken == (trial.cluster.first.name, 0.3), "no rule moves what a person has set"
    await trial.person(Happened.ABORT)
    await trial.controller.look()
    assert trial.taken == (trial.cluster.first.name, None)
