"""Three numbers lead whatever is said of a version, and never one without the others."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.reports.headline import NOT_KEPT, OF_ACCEPTED, headline
from router_models.reports.policies import policies_section
from router_models.reports.sections import promise_section
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Compared, Streamed
from router_models.risk_control.certificates.risks import ACCEPTED_RISK, ANSWERED_RISK, HARM_RISK
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.paired import compare_with_last

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TERMS = CertificateTerms(0.1, 0.1, "programmatic", NOW, NOW + timedelta(days=90))
FOUND = Compared(400, 100, 8, 5, 2, 3, (-0.0075, -0.02, 0.004), (0.123, 0.1, 0.15))


def made(what: str = HARM_RISK, compared: Compared | None = FOUND) -> Certificate:
    return replace(TERMS.issue(what, n=300, accepted_n=100, errors=5, threshold=0.5), compared=compared)


def test_the_bound_with_its_counts_then_what_is_lost_then_what_is_saved() -> None:
    assert headline(made()) == (
        f"{HARM_RISK} <= 0.1: 5 of 100 on CERT, 90 % confidence",
        "right answers against always asking the last tier: -0.8 points (-2.0 to +0.4)",
        "cost saved, net of router and verifier: 12.3% (10.0% to 15.0%)",
    )


def test_what_streamed_labels_cannot_say_is_not_asked_for_again() -> None:
    streamed = replace(made(compared=None), streamed=Streamed(80, 61, 17.2, 2, 3, 2, 0.81))
    assert all(line.endswith(OF_ACCEPTED) for line in headline(streamed)[1:])
    assert all(line.endswith(NOT_KEPT) for line in headline(made(compared=None))[1:])


@pytest.mark.parametrize("what", [ACCEPTED_RISK, ANSWERED_RISK])
def test_other_promises_say_the_harm_beside_their_own_bound(what: str) -> None:
    bound, right, saved = headline(made(what))
    assert bound.startswith(
        f"{what} <= 0.1: 5 of 100 on CERT; wrong where the last tier's is right: 5 of 100 cheap ones"
    )
    assert (right, saved) == headline(made())[1:]


def test_a_certificate_from_before_says_that_nothing_was_kept_of_what_it_saves() -> None:
    data = made().to_json()
    del data["compared"]
    old = Certificate.from_json(data)
    assert old.compared is None
    assert all(line.endswith(NOT_KEPT) for line in headline(old)[1:])


def test_the_comparison_survives_its_file() -> None:
    assert Certificate.from_json(made().to_json()) == made()


def test_the_page_leads_with_them_and_says_what_stands_beside() -> None:
    page = promise_section(made())
    assert page.startswith("1. P(cheap wrong and last tier right | cheap accepted) <= 0.1: 5 of 100 on CERT")
    counts = "8 are wrong (8.0%): 5 where the last tier's is right (harm), 3 where it is wrong too"
    for words in (counts, "2 are right", "3 last answers were not graded"):
        assert words in page


def seen() -> CascadeEvidence:
    """Four cheap answers and a last tier that is right on the first and third; the fourth is not tried."""
    right = [[0, 1], [0, 0], [1, 1], [1, 0], [0, 1]]
    route = np.array([[0.9], [0.9], [0.9], [0.9], [0.1]])
    return CascadeEvidence.of(("cheap", "last"), route, np.full((5, 2), 0.8), (1.0, 10.0), right)


def test_what_is_compared_is_counted_by_hand() -> None:
    replayed = replay_policy(seen(), Thresholds((0.5,), (0.5,), (-np.inf, -np.inf)))
    found = compare_with_last(seen(), replayed, router_usd=0.1, verifier_usd=0.5)
    assert (found.n, found.kept, found.wrong, found.harmed, found.gained, found.ungraded) == (5, 4, 2, 1, 1, 0)
    assert found.right_difference[0] == 0
    assert found.cost_saved[0] == pytest.approx(1 - (4 * 1.0 + 10.0 + 5 * 0.1 + 4 * 0.5) / 50)
    dearer = compare_with_last(seen(), replayed, router_usd=0.1, verifier_usd=0.5, judges_last=True)
    assert dearer.cost_saved[0] == pytest.approx(found.cost_saved[0] - 0.5 / 50)


def test_an_abstention_loses_a_right_answer() -> None:
    silent = replay_policy(seen(), Thresholds((np.inf,), (np.inf,), (-np.inf, 0.9)))
    found = compare_with_last(seen(), silent)
    assert (found.kept, found.right_difference[0]) == (0, pytest.approx(-3 / 5))


def test_the_table_of_policies_shows_the_same_numbers() -> None:
    replayed = replay_policy(seen(), Thresholds((0.5,), (0.5,), (-np.inf, -np.inf)))
    row = policies_section(seen(), replayed, 0, FOUND).splitlines()[2]
    assert "| 87.7 (85.0 to 90.0) |" in row
    assert row.endswith("| -0.8 (-2.0 to 0.4) |")
