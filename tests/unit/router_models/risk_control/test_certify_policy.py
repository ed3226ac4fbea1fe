"""One certification path: which risk is promised is data, and two tiers are the ladder of length two."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.risk_control.certificates.risks import ABSTAIN_RISK, ACCEPTED_RISK, ANSWERED_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, certify_policy, routed
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.sequence import spent_delta, upper_bound
from router_models.risk_control.thresholds import certify_threshold
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = CertificateTerms(0.2, 0.1, "human", NOW, NOW + timedelta(days=30))
PLACED = {"small": OperatingPoint(0.5, 0.9), "large": OperatingPoint(np.inf, -np.inf, 0.2)}


def pair(n: int, seed: int) -> CascadeEvidence:
    """Calibrated by construction; the small tier costs a tenth of the large one."""
    rng = np.random.default_rng(seed)
    p = np.column_stack([rng.beta(2, 1, n), rng.beta(9, 1, n)])
    route = np.clip(p[:, :1] + rng.normal(0, 0.1, (n, 1)), 0, 1)
    return CascadeEvidence.of(("small", "large"), route, p, (0.1, 1.0), rng.random((n, 2)) < p, rng.integers(9, 99, n))


def test_the_accepted_promise_is_the_threshold_test_on_the_prompts_that_are_routed() -> None:
    tune, cert = pair(800, 1), pair(1500, 2)
    found = certify_policy(tune, cert, Guarantee("accepted", abstain_share=0.1), TERMS, PLACED)
    own = certify_threshold(routed(tune, 0.5), routed(cert, 0.5), TERMS)
    assert replace(found.certificate, also=()) == own
    assert found.points["small"] == OperatingPoint(0.5, own.threshold_for())
    assert [promise.what for promise in found.certificate.also] == [ABSTAIN_RISK]
    replayed = replay_policy(cert, Thresholds.from_points(found.points, cert.tiers))
    assert int(replayed.accepted.sum()) == own.accepted_n
    assert int((replayed.accepted & replayed.wrong(cert.grades > 0)).sum()) == own.errors


def test_the_answered_promise_counts_what_the_whole_policy_answers() -> None:
    tune, cert = pair(800, 1), pair(1500, 2)
    found = certify_policy(tune, cert, Guarantee("answered", abstain_share=0.1), TERMS, {})
    assert found.certificate.what == ANSWERED_RISK
    replayed = replay_policy(cert, Thresholds.from_points(found.points, cert.tiers))
    assert found.certificate.accepted_n == int((~replayed.abstained).sum())
    assert found.certificate.errors == int(replayed.wrong(cert.grades > 0).sum())
    assert found.chosen is not None
    assert found.chosen.thresholds == Thresholds.from_points(found.points, cert.tiers)


def test_without_proof_of_abstaining_nothing_is_abstained_from() -> None:
    placed = PLACED | {"large": OperatingPoint(np.inf, -np.inf, 0.9)}
    found = certify_policy(pair(800, 1), pair(1500, 2), Guarantee("accepted", abstain_share=0.1), TERMS, placed)
    assert found.points["large"].abstain_below is None
    assert found.certificate.also == ()


def test_a_largest_drop_is_a_line_of_the_same_certificate() -> None:
    found = certify_policy(pair(2000, 1), pair(4000, 2), Guarantee("accepted", max_drop=0.3), TERMS, PLACED)
    assert found.certificate.what == ACCEPTED_RISK
    assert [promise.bound for promise in found.certificate.also] == [0.3]


def test_acceptance_of_three_tiers_and_a_route_to_nowhere_are_refused() -> None:
    two = pair(100, 1)
    three = replace(two, tiers=("small", "medium", "large"))
    with pytest.raises(DataError, match="two tiers"):
        certify_policy(three, three, Guarantee("accepted"), TERMS, PLACED)
    with pytest.raises(DataError, match="sends nothing to the cheap tier"):
        routed(two, 1.1)


def test_the_share_of_delta_goes_into_every_number_of_the_certificate() -> None:
    terms = replace(TERMS, look_index=2, binds={"a": "b"})
    made = terms.issue(ACCEPTED_RISK, n=100, accepted_n=50, errors=3, threshold=0.5)
    assert made.level == terms.level == spent_delta(0.1, 2)
    assert made.upper == upper_bound(3, 50, made.level)
    assert (made.binds, made.look_index, made.label_source) == ({"a": "b"}, 2, "human")
    with pytest.raises(DataError, match="delta"):
        replace(TERMS, delta=0.0)


def test_thresholds_and_points_are_each_others_inverse() -> None:
    tiers = ("small", "medium", "large")
    thresholds = Thresholds((0.3, np.inf), (0.8, np.inf), (0.1, -np.inf, 0.2))
    assert Thresholds.from_points(thresholds.points(tiers), tiers) == thresholds
    assert Thresholds.from_points(Policy(tiers, {}).points, tiers).route_at == (np.inf, np.inf)


def test_what_is_abstained_from_is_neither_right_nor_wrong_nor_accepted() -> None:
    data = CascadeEvidence.of(
        ("small", "large"), [[0.9], [0.9], [0.1]], [[0.9, 0.5], [0.1, 0.5], [0.9, 0.1]], (1.0, 5.0), np.ones((3, 2))
    )
    replayed = replay_policy(data, Thresholds((0.5,), (0.5,), (-np.inf, 0.3)))
    assert replayed.answered_by.tolist() == [0, 1, -1]
    assert replayed.tried.tolist() == [0, 0, 1]
    assert replayed.accepted.tolist() == [True, False, False]
    assert replayed.escalated.tolist() == [False, True, False]
    assert replayed.cost_usd.tolist() == [1.0, 6.0, 5.0]
    assert replayed.right(data.grades > 0).tolist() == [True, True, False]
    assert not replayed.wrong(data.grades > 0).any()


def test_every_slice_may_have_an_acceptance_threshold_of_its_own() -> None:
    data = pair(50, 3)
    own = np.where(np.arange(50) % 2 == 0, 0.4, np.inf)
    replayed = replay_policy(data, Thresholds((0.0,), (0.4,), (-np.inf, -np.inf)), accept_at=own)
    assert replayed.accepted.tolist() == ((data.p_ok[:, 0] >= 0.4) & (np.arange(50) % 2 == 0)).tolist()


def test_unlabelled_traffic_has_no_grades() -> None:
    data = replace(pair(5, 1), right=None)
    with pytest.raises(DataError, match="no labels"):
        _ = data.grades
    assert data.take(np.array([0, 0])).prompt_lengths.tolist() == [data.prompt_lengths[0]] * 2
