"""Experiment 3: where no threshold can keep the budget, none is certified, and the message says why."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled, counts_at, quantile_grid
from router_models.risk_control.thresholds import certify_threshold

DELTA, EPSILON = 0.1, 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def certify(tune: Labelled, cert: Labelled, epsilon: float = EPSILON) -> float:
    terms = CertificateTerms(epsilon, DELTA, "programmatic", NOW, NOW + timedelta(days=90))
    return certify_threshold(tune, cert, terms).threshold


def draw(rng: np.random.Generator, n: int, base: float) -> Labelled:
    """A score that ranks a little: risk falls from base + 4 % at its lowest to base - 4 % at its highest."""
    scores = rng.random(n)
    return Labelled(scores, rng.random(n) < base + 0.08 * (0.5 - scores))


def test_an_infeasible_route_is_certified_no_more_often_than_delta(size, allowed, measured):
    runs = size(300, 2000)
    rng = np.random.default_rng(3)
    false = plug_in = explained = 0
    for _ in range(runs):
        tune, cert = draw(rng, 300, 0.15), draw(rng, 400, 0.15)  # at best 11 % wrong
        accepted, wrong = counts_at(quantile_grid(tune.scores), cert)
        plug_in += (wrong <= EPSILON * accepted).any()
        try:
            certify(tune, cert)
            false += 1
        except NotCertifiedError as error:
            explained += "infeasible" in error.reason or "no threshold certified" in error.reason
    measured(
        f"B={runs}: false certificates {false} (≤ {allowed(runs, DELTA)}), plug-in {plug_in}, explained {explained}"
    )
    assert false <= allowed(runs, DELTA)
    assert plug_in > allowed(runs, DELTA), "the negative control must fail"
    assert explained == runs - false


def test_the_message_names_the_base_error_the_ceiling_and_what_would_help():
    rng = np.random.default_rng(4)
    tune, cert = draw(rng, 2000, 0.30), draw(rng, 400, 0.30)
    with pytest.raises(NotCertifiedError) as caught:
        certify(tune, cert)
    reason = caught.value.reason
    assert f"{tune.wrong.mean():.1%}" in reason
    assert f"{(1 - tune.wrong.mean()) / 0.9:.0%}" in reason
    assert "More labels would not help: a verifier, or a router where it decides alone" in reason
    assert caught.value.labels_missing is None


def test_a_feasible_route_with_too_few_labels_says_how_many_are_missing_and_they_suffice():
    rng = np.random.default_rng(5)

    def easy(n: int) -> Labelled:
        scores = rng.random(n)
        return Labelled(scores, rng.random(n) < 0.12 * (1 - scores))

    tune, few = easy(1000), easy(30)
    with pytest.raises(NotCertifiedError) as caught:
        certify(tune, few, epsilon=0.05)
    missing = caught.value.labels_missing
    assert missing is not None
    certified = 0
    for _ in range(100):
        try:
            certify(tune, easy(30 + missing), epsilon=0.05)
            certified += 1
        except NotCertifiedError:
            pass
    assert certified >= 80, f"{certified} of 100 certified with the {missing} labels more that were asked for"
