"""What the story expects of a chapter follows from how the two versions differ."""

from dataclasses import replace

from router_models.monitoring.canary import CanaryLimits, PairedRequest
from tests.story.expected import Question, expect

LIMITS = CanaryLimits(margin=0.05, harm_margin=0.05, latency_limit_s=1.0, latency_margin=0.05)
ALIKE = Question(PairedRequest(True, 1.0, 1.0, False, False, 0.01, 0.01, ("en",), last_usd=0.02), 0.1, 0.1)
HARMED = replace(ALIKE, pair=PairedRequest(False, 1.0, 0.0, False, True, 0.01, 0.01, ("de",), last_usd=0.02))
SLOW = replace(ALIKE, candidate_s=2.0)
SHARES, DRAWS = ((0, 0.5), (600, 1.0)), 3


def test_versions_that_decide_alike_are_expected_to_be_promoted_and_not_before_their_last_step() -> None:
    early, held = expect([ALIKE], LIMITS, ((0, 1.0),), 0, DRAWS), expect([ALIKE], LIMITS, SHARES, 600, DRAWS)
    assert (early.verdict, held.verdict, early.agree) == ("promote", "promote", DRAWS)
    assert early.most < 300 < 600 <= held.median <= held.most < 700 < held.bound


def test_what_is_wrong_in_one_language_is_expected_to_be_found_there() -> None:
    found = expect([ALIKE] * 23 + [HARMED], LIMITS, ((0, 1.0),), 0, DRAWS)
    assert found.verdict == "roll_back"
    assert "_worse (de)" in found.against
    assert "(overall)" not in found.against


def test_a_version_that_is_slow_is_expected_to_be_taken_back_for_that_while_both_answer() -> None:
    found = expect([SLOW, ALIKE], LIMITS, SHARES, 600, DRAWS)
    assert (found.verdict, found.against.startswith("latency_worse")) == ("roll_back", True)
    assert found.most < 600
