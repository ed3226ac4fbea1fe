"""The review of a version is read from its tags, however a person typed them, and only one word lets it serve."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import RegistryError
from router_models.versions.registry import RegisteredVersion
from router_models.versions.review import Review, review_refusal, review_state, review_tags

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def version(tags: Mapping[str, str]) -> RegisteredVersion:
    return RegisteredVersion("sqlite:///x", "router", "3", "run", tags, ())


@pytest.mark.parametrize(
    ("tags", "state"),
    [
        ({}, "none"),
        ({"review": ""}, "none"),
        ({"review": "proposed"}, "proposed"),
        ({"review": "pending"}, "proposed"),
        ({"review": "approved"}, "approved"),
        ({"review": " Approved \n"}, "approved"),
        ({"review": '"APPROVED"'}, "approved"),
        ({"Review ": "approve"}, "approved"),
        ({"review": "Rejected"}, "rejected"),
        ({"review": "aproved"}, "unclear"),
        ({"review": "not approved"}, "unclear"),
        ({"review": "yes"}, "unclear"),
        ({"review": "approved", "Review": "rejected"}, "unclear"),
        ({"review": "approved", "REVIEW": "approved"}, "approved"),
        ({"status": "approved"}, "none"),
        ({"status": "pending"}, "none"),
        ({"status": "rejected"}, "rejected"),
        ({"status": "rejected", "review": "approved"}, "rejected"),
    ],
)
def test_a_review_is_read_as_it_was_meant_or_as_unclear(tags: Mapping[str, str], state: str) -> None:
    assert review_state(version(tags)).state == state


@given(st.text(max_size=12))
def test_no_other_word_approves(word: str) -> None:
    meant = word.strip().strip("'\"`").strip().casefold() in ("approved", "approve")
    assert review_state(version({"review": word})).approved is meant
    assert (review_refusal(version({"review": word})) is None) is meant


def test_who_when_and_why_are_those_of_the_state_they_were_written_for() -> None:
    tags = review_tags("approved", " anna ", AT, "read the report")
    review = review_state(version(tags))
    assert review == Review("approved", "anna", "2026-11-28T12:00:00+00:00", "read the report")
    assert review.text() == "approved by: anna, 2026-11-28: read the report"
    assert review_state(version(tags | {"review": "rejected"})) == Review("rejected"), "set by hand, by somebody else"
    by_hand = {"review": "approved", "review.by": "bert"}
    assert review_state(version({"review": "proposed"} | by_hand)).line() == "approved by: bert"


@pytest.mark.parametrize("state", ["approved", "rejected"])
def test_a_review_that_is_written_halfway_approves_nothing(state: str) -> None:
    tags, before = review_tags(state, "anna", AT, "why"), {"review": "approved" if state == "rejected" else "proposed"}  # type: ignore[arg-type]
    written: dict[str, str] = dict(before)
    for done, (key, value) in enumerate(tags.items(), 1):
        written[key] = value
        assert review_state(version(written)).approved is (state == "approved" and done == len(tags))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({}, "router/3 is not reviewed: read `serve-graph versions show 3`, then `serve-graph versions approve 3"),
        ({"review": "proposed"}, "router/3 is proposed and not approved: read `serve-graph versions show 3`"),
        ({"review": "rejected"}, "router/3 was rejected in review: promote another version, or approve it"),
        (
            {"review": "aproved"},
            "the tag 'review' says 'aproved', not proposed, approved or rejected; correct",
        ),
    ],
)
def test_what_keeps_a_version_from_traffic_names_it_and_the_command(tags: Mapping[str, str], said: str) -> None:
    refusal = review_refusal(version(tags))
    assert refusal is not None
    assert said in refusal
    assert "serve-graph versions approve 3" in refusal


def test_no_name_and_no_reason_of_a_reviewer_is_in_a_refusal() -> None:
    refusal = review_refusal(version(review_tags("rejected", "anna", AT, "loses on German")))
    assert refusal is not None
    assert "anna" not in refusal
    assert "German" not in refusal


@pytest.mark.parametrize(
    ("by", "reason", "said"),
    [
        ("", "why", "a review needs a --by"),
        ("anna", " \n", "a review needs a --reason"),
        ("anna", "x" * 2001, "--reason has 2001 characters: 2000 are allowed"),
        ("an\x00na", "why", "--by holds characters"),
    ],
)
def test_a_review_without_a_name_or_a_reason_is_refused(by: str, reason: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        review_tags("approved", by, AT, reason)
