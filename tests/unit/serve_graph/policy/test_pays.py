"""A version that loses money is not served, and the reason says what is measured and where break-even lies."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.errors import LossError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.pricing.break_even import CallTotals, Tries
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import OperatingPoint
from router_models.types.label_sources import LabelSource
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import tier_binds, tier_prices
from serve_graph.policy.pays import check_pays, later_losses, loss_of, seconds_of
from serve_graph.policy.serving_version import serving_version

MADE = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 2, 1, tzinfo=UTC)
CHEAP = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4}
FRONTIER = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}


def graph_of(folder: Path, policy: dict[str, Any] | None = None, later: dict[str, Any] | None = None) -> GraphConfig:
    changes = [] if later is None else [{**later, "valid_from": LATER}]
    tiers = [
        {"engine": "echo", "name": "cheap", "price": CHEAP, "price_changes": changes},
        {"engine": "echo", "name": "frontier", "price": FRONTIER},
    ]
    return GraphConfig.model_validate({"tiers": tiers, "state_folder": folder / "state", "policy": policy or {}})


def version_of(graph: GraphConfig, repeated: int) -> RouterVersion:
    """A certified version: 200 of 300 prompts were tried, and so many tries repeated."""
    bare = RouterVersion(
        Policy(graph.tier_names, {"cheap": OperatingPoint(0.5, 0.5)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
    )
    kept = 200 - repeated
    proof = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=300, accepted_n=kept, errors=1, upper=0.08,
        threshold=0.5, label_source=LabelSource.PROGRAMMATIC, made_at=MADE, expires_at=MADE + timedelta(days=90),
        binds={**tier_binds(graph), **bare.binds(tier_prices(graph, MADE))},
        tries=Tries(
            300, 200, repeated, "frontier", {"cheap": CallTotals(200, 20_000, 4_000)},
            CallTotals(kept, 100.0 * kept, 20.0 * kept),
        ),
    )  # fmt: skip
    return replace(bare, certificate=proof)


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[[GraphConfig, int], Path]:
    def save(graph: GraphConfig, repeated: int) -> Path:
        folder = tmp_path / "version"
        version_of(graph, repeated).save(folder)
        return folder

    return save


def test_a_version_whose_tries_are_mostly_repeated_is_not_served_unless_the_configuration_says_so(
    tmp_path: Path, sealed: Callable[[GraphConfig, int], Path]
) -> None:
    graph = graph_of(tmp_path)
    folder = sealed(graph, 190)
    served = serving_version(graph, folder, MADE)
    assert served.version is None
    assert "95.0% of 200 tries had to be repeated on frontier" in served.reason
    assert "break-even is 90.0%" in served.reason
    assert "policy.allow_loss" in served.reason
    assert serving_version(graph_of(tmp_path, {"allow_loss": True}), folder, MADE).version is not None


def test_a_version_that_pays_is_served(tmp_path: Path, sealed: Callable[[GraphConfig, int], Path]) -> None:
    graph = graph_of(tmp_path)
    assert serving_version(graph, sealed(graph, 170), MADE).version is not None


def test_the_check_raises_with_both_ways_on(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    with pytest.raises(LossError, match=r"this version: it would lose money: 95.0% .*--allow-loss.*policy.allow_loss"):
        check_pays(version_of(graph, 190), graph, MADE)
    check_pays(version_of(graph, 190), graph, MADE, allow_loss=True)
    check_pays(version_of(graph, 170), graph, MADE)


def test_prices_that_come_into_force_later_count_from_then_on(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, later={"input_usd_per_mtok": 0.5, "output_usd_per_mtok": 2})
    version = version_of(graph, 150)
    assert loss_of(version, graph, MADE) is None
    ((moment, loss),) = later_losses(version, graph, MADE)
    assert moment == LATER
    assert "break-even is 50.0%" in loss
    folder = tmp_path / "version"
    version.save(folder)
    fault = serving_version(graph, folder, MADE).validity.whole.fault(LATER)
    assert fault is not None
    assert "prices" in fault
    assert "it would lose money: 75.0% of 200 tries" in fault


def test_what_router_and_verifier_cost_is_measured_and_counts(tmp_path: Path) -> None:
    version = version_of(graph_of(tmp_path), 170)
    assert min(seconds_of(version)) > 0
    for name in ("router_usd_per_s", "verifier_usd_per_s"):
        loss = loss_of(version, graph_of(tmp_path, {name: 1000}), MADE)
        assert loss is not None
        assert "and its overhead $" in loss


def test_a_certificate_that_measured_no_tries_is_not_judged_by_them(tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    version = version_of(graph, 190)
    assert version.certificate is not None
    assert loss_of(replace(version, certificate=replace(version.certificate, tries=None)), graph, MADE) is None
    assert loss_of(replace(version, certificate=None), graph, MADE) is None
