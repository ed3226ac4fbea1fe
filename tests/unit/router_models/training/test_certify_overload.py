"""An overload point: which rejected answers may be served while the last tier is full, and on what proof."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from router_models.errors import DataError, NotCertifiedError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.pricing.prices import Price
from router_models.reports.overload import overload_section
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import routed
from router_models.risk_control.evidence import CascadeEvidence
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from router_models.training.candidate import Settings
from router_models.training.certify_overload import OVERLOAD_RISK, certify_overload, check_overload, rejected, shared
from router_models.types import Action, OperatingPoint, Verdict
from router_models.versions.policy import OverloadPoint, Policy, worst
from router_models.versions.router_version import RouterVersion, Stage
from router_models.versions.sealed.policy_file import overload_point

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("cheap", "frontier")
TERMS = CertificateTerms(0.4, 0.025, "programmatic", NOW, NOW + timedelta(days=90))
SETTINGS = Settings(
    TIERS, {tier: Price(Decimal(1), Decimal(2)) for tier in TIERS}, epsilon=0.1, delta=0.1, promise="accepted"
)


def policy(serve_at: float | None = 0.4) -> Policy:
    overload_points = {} if serve_at is None else {"cheap": OverloadPoint(serve_at, 0.3)}
    return Policy(TIERS, {"cheap": OperatingPoint(0.2, 0.7)}, overload_points=overload_points)


def test_rejected_answers_from_the_spill_point_on_may_spill_and_no_others() -> None:
    judged = {p: policy().judge("cheap", p) for p in (0.39, 0.4, 0.69, 0.7)}
    assert {p: (str(v.action), v.may_serve_on_overload) for p, v in judged.items()} == {
        0.39: ("escalated", False),
        0.4: ("escalated", True),
        0.69: ("escalated", True),
        0.7: ("accepted", False),
    }


def test_without_a_spill_point_nothing_may() -> None:
    assert not policy(None).judge("cheap", 0.69).may_serve_on_overload


def test_abstained_answers_and_the_last_tiers_never_spill() -> None:
    silent = replace(policy(), points={"cheap": OperatingPoint(0.2, 0.7, 0.5), "frontier": OperatingPoint(0, 0, 0.5)})
    assert not silent.judge("cheap", 0.45).may_serve_on_overload
    assert not silent.judge("frontier", 0.6).may_serve_on_overload


def test_spill_point_of_an_unjudged_tier_is_refused() -> None:
    with pytest.raises(DataError, match="overload points"):
        Policy(TIERS, {}, overload_points={"cheap": OverloadPoint(0.4, 0.3)})


ESCALATED, ACCEPTED = Verdict(Action.ESCALATED, "", 0.5, True), Verdict(Action.ACCEPTED, "", 0.9)


@pytest.mark.parametrize(
    ("others", "may"),
    [
        ([ACCEPTED, ESCALATED], True),
        ([Verdict(Action.ESCALATED, "", 0.6, False)], False),
        ([Verdict(Action.ESCALATED, "", 0.1, False)], False),
        ([Verdict(Action.ABSTAINED, "", 0.1)], False),
    ],
)
def test_choices_that_are_shown_together_spill_only_where_each_may(others: Sequence[Verdict], may: bool) -> None:
    assert worst([ESCALATED, *others]).may_serve_on_overload is may


def evidence(n: int, seed: int, calm: bool = True) -> CascadeEvidence:
    """Scores that are honest probabilities, in two slices; every third prompt is routed past the cheap tier."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2.0, 1.0, n)
    right = rng.random(n) < (p if calm else 0.2)
    ones = np.ones(n)
    route = np.where(np.arange(n) % 3 == 0, 0.1, 0.9)[:, None]
    seen = CascadeEvidence.of(TIERS, route, np.column_stack([p, ones]), (0.1, 1.0), np.column_stack([right, ones]))
    return seen.cut(["short" if i % 2 else "long" for i in range(n)])


def version(accept_at: float = 0.8, slicer: str | None = None) -> RouterVersion:
    return RouterVersion(
        Policy(TIERS, {"cheap": OperatingPoint(0.5, accept_at)}),
        {"cheap": Stage(ConstantRouter(0.7), None, NonEmptyVerifier(), None)},
        slicer=slicer,
    )


def band(n: int, seed: int, calm: bool = True) -> Labelled:
    return rejected(version(), evidence(n, seed, calm))


def test_labels_of_a_spill_are_those_of_tried_and_rejected_answers_alone() -> None:
    seen = evidence(900, 1)
    found = band(900, 1)
    assert found.scores.max() < 0.8
    assert len(found) == int(((seen.p_route[:, 0] >= 0.5) & (seen.p_ok[:, 0] < 0.8)).sum()) < 600


def test_certified_spill_promises_something_of_the_spilled_answers_alone() -> None:
    made = certify_overload(band(900, 1), band(4000, 2), replace(TERMS, binds={"a": "b"}))
    assert (made.what, made.epsilon, made.delta, made.binds) == (OVERLOAD_RISK, 0.4, 0.025, {"a": "b"})
    point = overload_point(made)
    assert 0.3 < point.serve_at < 0.8
    assert point.promised == 0.6
    fresh = band(200_000, 3)
    assert fresh.wrong[fresh.scores >= point.serve_at].mean() <= 0.4
    whole = evidence(200_000, 3)
    let_through = (whole.p_route[:, 0] >= 0.5) & (whole.p_ok[:, 0] >= point.serve_at)
    assert 1 - whole.grades[let_through, 0].mean() < 0.25, "the looser promise would have said much less"


def test_what_cannot_be_proved_is_not_certified_and_says_of_what() -> None:
    with pytest.raises(NotCertifiedError, match="among rejected answers"):
        certify_overload(band(900, 1, False), band(900, 2, False), TERMS)


def test_a_version_that_rejects_nothing_has_nothing_to_spill() -> None:
    none = rejected(version(accept_at=0.0), evidence(100, 1))
    with pytest.raises(NotCertifiedError, match="nothing to serve on overload"):
        certify_overload(none, none, TERMS)


def test_slices_are_rejected_and_certified_each_by_its_own_threshold() -> None:
    parts = evidence(2000, 1), evidence(4000, 2)
    sliced = version(slicer="length")
    assert rejected(sliced, parts[0]).slices is None, "without a certificate there are no slices"
    own = certify_threshold(*(routed(part, 0.5) for part in parts), replace(TERMS, epsilon=0.2, delta=0.1))
    tune, cert = (rejected(replace(sliced, certificate=own), part) for part in parts)
    assert tune.slices is not None
    made = certify_overload(tune, cert, replace(TERMS, epsilon=0.5, delta=0.05))
    assert set(made.slices) == set(tune.slices)
    assert all(p.level == 0.025 for p in made.slices.values())


@pytest.mark.parametrize(
    ("settings", "epsilon", "reason"),
    [
        (SETTINGS, 0.1, "must lie between"),
        (SETTINGS, 1.0, "must lie between"),
        (replace(SETTINGS, max_drop=0.05), 0.3, "largest drop"),
        (replace(SETTINGS, promise="answered"), 0.3, "certified together"),
        (replace(SETTINGS, promise="answered", slicer="domain"), 0.3, "certified together"),
    ],
)
def test_spill_that_would_break_another_promise_or_say_nothing_is_refused(
    settings: Settings, epsilon: float, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        check_overload(settings, epsilon)


def test_both_certificates_share_delta() -> None:
    own, of_the_spill = shared(SETTINGS)
    assert own.delta + of_the_spill == pytest.approx(SETTINGS.delta)
    assert own.delta > of_the_spill > 0


def test_saved_spill_point_is_loaded_with_its_certificate_and_voids_nothing(tmp_path: Path) -> None:
    made = certify_overload(band(900, 1), band(4000, 2), replace(TERMS, binds={"a": "b"}))
    plain = version()
    spilling = replace(
        plain,
        policy=replace(plain.policy, overload_points={"cheap": overload_point(made)}),
        overload_certificates={"cheap": made},
    )
    spilling.save(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    assert (loaded.policy, loaded.overload_certificates) == (spilling.policy, {"cheap": made})
    assert loaded.binds(SETTINGS.prices) == plain.binds(SETTINGS.prices)


def test_report_says_what_is_spilled_on_what_evidence_until_when() -> None:
    made = certify_overload(band(900, 1), band(4000, 2), TERMS)
    page = overload_section({"cheap": made})
    assert f"{made.errors} of {made.accepted_n}" in page
    assert "0.4" in page
    assert "97.5%" in page
    assert "2026-04-05" in page
    assert "refused (429)" in overload_section({})
