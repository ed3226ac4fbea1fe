"""A promise about harm: what counts, of which answers, for two tiers and for a ladder."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import DataError, NotCertifiedError
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, HARM_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, certify_policy, check_on_tune, routed
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint import certify_joint
from router_models.risk_control.joint_path import counts
from router_models.risk_control.ladder.tuning import predict
from router_models.types import OperatingPoint

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TERMS = CertificateTerms(0.1, 0.1, "programmatic", NOW, NOW + timedelta(days=90))
TIERS = ("small", "medium", "large")
PLACED = {"small": OperatingPoint(0.0, 0.5), "large": OperatingPoint(np.inf, -np.inf)}


def evidence(n: int, seed: int, tiers: tuple[str, ...] = TIERS, last_right: float = 0.75) -> CascadeEvidence:
    """Scores that tell right from wrong, and a last tier that is itself often wrong."""
    rng = np.random.default_rng(seed)
    k = len(tiers)
    sure = rng.random((n, k))
    right = rng.random((n, k)) < sure
    right[:, -1] = rng.random(n) < last_right
    route = np.clip(sure[:, :-1] + rng.normal(0, 0.2, (n, k - 1)), 0, 1)
    sure[:, -1] = last_right
    cost = (1.0, 5.0, 20.0)[:k] if k == 3 else (1.0, 20.0)
    return CascadeEvidence.of(tiers, route, sure, cost, right)


def pair(n: int, seed: int, last_right: float = 0.75) -> CascadeEvidence:
    return evidence(n, seed, ("small", "large"), last_right)


def test_only_a_wrong_cheap_answer_whose_last_answer_is_right_is_harm() -> None:
    right = [[1, 1], [1, 0], [0, 1], [0, 0], [0, np.nan]]
    seen = CascadeEvidence.of(("a", "b"), np.ones((5, 1)), np.ones((5, 2)), (1.0, 2.0), right)
    assert seen.harm[:, 0].tolist() == [False, False, True, False, True]
    assert seen.ungraded is not None
    assert seen.ungraded.tolist() == [False] * 4 + [True]
    assert routed(seen, 0.5).wrong.sum() == 3
    assert routed(seen, 0.5, harm=True).wrong.sum() == 2


def test_labels_may_be_missing_of_the_last_tier_alone() -> None:
    with pytest.raises(DataError, match="labels must be 0 or 1"):
        CascadeEvidence.of(("a", "b"), np.ones((1, 1)), np.ones((1, 2)), (1.0, 2.0), [[np.nan, 1]])


def test_harm_accepts_more_than_wrong_where_the_last_tier_errs_on_the_same_questions() -> None:
    tune, cert = pair(800, 1), pair(3000, 2)
    found = {
        risk: certify_policy(tune, cert, Guarantee(risk), TERMS, PLACED).certificate for risk in ("harm", "accepted")
    }
    assert (found["harm"].what, found["accepted"].what) == (HARM_RISK, ACCEPTED_RISK)
    assert found["harm"].harm
    assert not found["harm"].joint
    assert found["harm"].accepted_n > found["accepted"].accepted_n
    at = cert.p_ok[:, 0] >= found["harm"].threshold
    assert (found["harm"].accepted_n, found["harm"].errors) == (int(at.sum()), int(cert.harm[at, 0].sum()))


def test_answers_of_the_last_tier_that_nobody_graded_count_against_it_and_are_refused_elsewhere() -> None:
    tune, cert = pair(800, 1), pair(3000, 2)
    grades = cert.grades
    grades[::3, -1] = np.nan
    blind = CascadeEvidence.of(cert.tiers, cert.p_route, cert.p_ok, cert.cost_usd, grades)
    told, all_graded = (certify_policy(tune, part, Guarantee("harm"), TERMS, PLACED) for part in (blind, cert))
    assert told.certificate.threshold >= all_graded.certificate.threshold
    at = blind.p_ok[:, 0] >= told.certificate.threshold
    assert told.certificate.errors == int((at & ~blind.right[:, 0] & (blind.right[:, 1] | blind.ungraded)).sum())
    with pytest.raises(DataError, match="nobody graded"):
        certify_policy(tune, blind, Guarantee("answered"), TERMS, PLACED)


def test_a_ladder_counts_the_answers_below_the_last_tier_alone() -> None:
    tune, cert = evidence(800, 3), evidence(3000, 4)
    found = certify_policy(tune, cert, Guarantee("harm", together=True), TERMS, {})
    made = found.certificate
    assert (made.what, made.joint, made.also) == (HARM_RISK, True, ())
    replayed = replay_policy(cert, Thresholds.from_named(made.settings, TIERS))
    assert replayed.accepted.any()
    assert made.accepted_n == replayed.accepted.sum()
    assert made.errors == (replayed.accepted & replayed.harmed(cert.right)).sum()
    assert replayed.cost_usd.mean() < 0.9 * cert.cost_usd[:, -1].mean()
    assert Certificate.from_json(made.to_json()) == made


def test_what_soft_labels_predict_of_harm_is_what_happens() -> None:
    seen = evidence(20_000, 5)
    thresholds = Thresholds((0.5, 0.5), (0.6, 0.7), (-np.inf,) * 3)
    told = predict(seen, thresholds, harm=True)
    kept, harmed, silent = counts(seen, thresholds, harm=True)
    assert told.risk == pytest.approx(harmed / kept, abs=0.02)
    assert (told.counted, silent) == (kept / len(seen), 0)


def test_each_slice_of_a_ladder_keeps_the_promise_by_itself() -> None:
    tune, cert = (evidence(n, seed) for n, seed in ((1500, 6), (6000, 7)))
    tune, cert = (part.cut([("even", "odd")[i % 2] for i in range(len(part))]) for part in (tune, cert))
    made = certify_joint(tune, cert, TERMS, harm=True).certificate
    assert {(p.what, p.level) for p in made.slices.values()} == {(HARM_RISK, 0.05)}
    assert all(p.errors <= 0.1 * p.trials for p in made.slices.values())


def test_a_largest_drop_is_proved_beside_harm() -> None:
    tune, cert = pair(800, 1), pair(4000, 2)
    made = certify_policy(tune, cert, Guarantee("harm", max_drop=0.1), TERMS, PLACED).certificate
    assert (made.what, made.also[0].bound) == (HARM_RISK, 0.1)


@pytest.mark.parametrize(("guarantee", "words"), [
    (Guarantee("harm"), "wrong where the last tier's is right"),
    (Guarantee("harm", together=True), "wrong where it is right"),
])  # fmt: skip
def test_what_cannot_be_shown_says_what_would_help(guarantee: Guarantee, words: str) -> None:
    rng = np.random.default_rng(0)
    right = np.column_stack([rng.random(400) < 0.5, np.ones(400)])
    seen = CascadeEvidence.of(("small", "large"), np.full((400, 1), 0.5), np.full((400, 2), 0.5), (1.0, 9.0), right)
    with pytest.raises(NotCertifiedError, match=words) as refused:
        check_on_tune(seen, seen, guarantee, TERMS, PLACED)
    assert all(help_ in refused.value.reason for help_ in ("labels would not help", "verifier", "tiers", "ε"))
