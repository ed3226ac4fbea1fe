"""What is counted in messages and results: one label is needed, two labels are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from router_models.errors import NotCertifiedError, by_number
from router_models.risk_control.certificates.promise import Streamed
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.sequence import Labelled
from router_models.risk_control.thresholds import certify_threshold
from serve_graph.cli.batch.quality.misses import misses_line
from serve_graph.cli.offline.label_terminal import status_line, told

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = CertificateTerms(0.1, 0.1, "human", NOW, NOW + timedelta(days=1))


def test_a_word_goes_with_its_number() -> None:
    assert [f"{n} {by_number(n, 'label')}" for n in (0, 1, 2)] == ["0 labels", "1 label", "2 labels"]
    assert [by_number(hours, "hour") for hours in (1.0, 1.5)] == ["hour", "hours"]
    assert [by_number(n, "batch is", "batches are") for n in (1, 1000)] == ["batch is", "batches are"]


@pytest.mark.parametrize(
    ("rows", "said"), [(51, "about 1 more label is needed"), (50, "about 2 more labels are needed")]
)
def test_a_refusal_counts_the_labels_that_are_missing(rows: int, said: str) -> None:
    tune, cert = (Labelled.of(np.full(n, 0.5), np.arange(n) < wrong) for n, wrong in ((400, 4), (rows, 2)))
    with pytest.raises(NotCertifiedError, match=said):
        certify_threshold(tune, cert, TERMS)


@pytest.mark.parametrize(("n", "words"), [(1, "1 label of judge:a left out"), (2, "2 labels of judge:a left out")])
def test_a_certificate_counts_its_labels(n: int, words: str) -> None:
    made = TERMS.issue("P(wrong | cheap accepted)", n=300, accepted_n=200, errors=9, threshold=0.5)
    assert words in replace(made, left_out={"judge:a": n}).summary()
    assert "1 row labelled, stopped at 1, 1 labeller, kappa 0.50" in Streamed(1, 1, 20.0, 1, 1, 1, 0.5).words


def test_a_session_counts_what_is_left() -> None:
    summary = {
        "labelled": 1, "against": 1, "proved": None, "skipped": 1, "disputed": 0, "agreement": [], "complete": True,
        "under_test": {"left": 1, "more": 1, "share": 0.5},
    }  # fmt: skip
    assert status_line(summary) == (
        "1 labelled, 1 counts against the promise; under test for 50% of prompts: about 1 more, 1 is left"
    )
    assert "1 skipped and 0 disputed answer counts against the promise until somebody labels it" in " ".join(
        told(summary)
    )
    assert "2 skipped and 0 disputed answers count against" in " ".join(told(summary | {"skipped": 2}))


def test_a_batch_counts_its_graded_answers() -> None:
    wrong, expected = {"share": 0.0, "low": 0.0, "high": 0.9}, {"low": 0.0, "high": 9.0}
    lines = [misses_line({"graded": n, "wrong": wrong, "expected": expected}) for n in (1, 2)]
    assert lines[0].startswith("of 1 graded answer 0.0 %")
    assert lines[1].startswith("of 2 graded answers 0.0 %")
