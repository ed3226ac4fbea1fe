"""What changes where one version serves in the place of another, on prompts that neither was fitted on."""

from decimal import Decimal

import pytest

from router_models.data.outcomes import OutcomeTable, prompt_id, read_outcomes, write_outcomes
from router_models.errors import DataError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.planning.version_diff import diff_versions, held_out
from router_models.pricing.prices import Price
from router_models.training.splits import split_outcomes
from router_models.types import OperatingPoint, Outcome, Usage
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

TIERS = ("cheap", "frontier")
PRICES = {"cheap": Price(Decimal("0.1"), Decimal("0.1")), "frontier": Price(Decimal(1), Decimal(1))}


def version(route_at: float, tiers: tuple[str, ...] = TIERS) -> RouterVersion:
    """Tries cheap for all prompts or for none, and takes every answer."""
    stages = {tier: Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None) for tier in tiers}
    return RouterVersion(Policy(tiers, {tiers[0]: OperatingPoint(route_at, 0.5)}), stages)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> OutcomeTable:
    """Cheap is right on short prompts, frontier on all."""
    path = tmp_path_factory.mktemp("diff") / "outcomes.parquet"
    prompts = [f"What colour is cat {i}?" if i % 2 else f"Prove {i}: {'and so on ' * 15}" for i in range(300)]
    write_outcomes(
        path,
        [
            Outcome(prompt_id(p), p, tier, "It is so", grade, Usage(10, 4), 0.1, "stop", {}, {})
            for p in prompts
            for tier, grade in (("cheap", float(len(p) < 100)), ("frontier", 1.0))
        ],
    )
    return read_outcomes(path, TIERS)


def test_flips_slices_quality_and_cost_are_those_of_the_paired_prompts(table: OutcomeTable) -> None:
    found = diff_versions(version(0.9), version(0.5), table, PRICES)
    assert (found.n, found.accepted, found.harmful) == (300, (0, 300), (0, 150))
    assert found.right == (1.0, 0.5)
    assert found.difference.low < found.difference.value == -0.5 < found.difference.high < -0.4
    assert found.usd[1] == pytest.approx(found.usd[0] / 10)
    [flip] = found.flips
    assert (flip.before, flip.after, flip.n, flip.gained, flip.lost) == ("frontier", "cheap", 300, 0, 150)
    assert all(example.startswith("Prove") and len(example) <= 120 for example in flip.examples), "what changed first"
    by_name = {change.name: (change.n, change.right.value, change.direction) for change in found.slices}
    assert by_name["medium"] == (150, -1.0, "loses")
    assert by_name["short"] == (150, 0.0, "unclear")
    assert found.slices[0].right.value == -1.0, "the greatest loss first"


def test_a_version_beside_itself_changes_nothing(table: OutcomeTable) -> None:
    found = diff_versions(version(0.5), version(0.5), table, PRICES)
    assert (found.flips, found.slices, found.difference.value) == ((), (), 0.0)


def test_prompts_that_either_version_was_fitted_on_do_not_count(table: OutcomeTable) -> None:
    kept = set(held_out(table, TIERS, (0, 7)).prompt_ids)
    for seed in (0, 7):
        assert kept.isdisjoint(split_outcomes(table, TIERS, seed).train.prompt_ids)
    assert len(kept) > 60


def test_versions_of_other_tiers_are_refused(table: OutcomeTable) -> None:
    with pytest.raises(DataError, match="is for the tiers"):
        diff_versions(version(0.5), version(0.5, ("small", "large")), table, PRICES)
