"""A certificate covers exactly the conditions that enough of its rows were asked under."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router_models.types.conditions import PLAIN, Conditions
from router_models.types.coverage import Coverage
from router_models.types.declared import LARGE
from router_models.types.text_coverage import NOT_COMPARED, TextCoverage
from router_models.versions.covering.covered_conditions import LEAST_ROWS, covered_conditions

WARM = Conditions(decoding='{"temperature":0.7}')
TOLD = Conditions(system_prompt="aa")
ASSISTANT = Conditions(system_prompt="bb")
CHAT = Conditions(turns=2)
ROWS = [PLAIN] * 100 + [WARM] * 20 + [TOLD] * 20 + [ASSISTANT] * 20 + [CHAT] * 20
COVERAGE = covered_conditions(ROWS, novelty=0.8)

UNCOVERED = [
    ("decoding", Conditions(decoding='{"temperature":1.9}')),
    ("system_prompt", Conditions(system_prompt="cc")),
    ("tools", Conditions(tools=True, declared="aa")),
    ("tool_loop", Conditions(tool_loop=True)),
    ("response_format", Conditions(response_format="json_object")),
    ("response_format", Conditions(response_format="json_schema", schema="aa")),
    ("response_format", Conditions(response_format="json_object", schema="aa")),
    ("turns", Conditions(turns=3)),
    ("choices", Conditions(choices=2)),
    ("prefilled", Conditions(prefilled=True)),
]


def test_two_system_prompts_and_two_decodings_cover_exactly_these() -> None:
    for row in (*ROWS, replace(WARM, system_prompt="aa", turns=2)):
        assert COVERAGE.uncovered(row) is None
    assert COVERAGE.n == len(ROWS)


@pytest.mark.parametrize(("reason", "asked"), UNCOVERED)
def test_any_other_condition_is_named(reason: str, asked: Conditions) -> None:
    found = COVERAGE.uncovered(asked)
    assert found is not None
    assert found.reason == reason
    assert covered_conditions([*ROWS, *[asked] * LEAST_ROWS]).uncovered(asked) is None or reason == "choices"


@pytest.mark.parametrize(
    ("reason", "always"),
    [
        ("tools", Conditions(tools=True, declared="aa")),
        ("response_format", Conditions(response_format="json_schema", schema="aa")),
        ("tool_loop", Conditions(tool_loop=True)),
        ("prefilled", Conditions(prefilled=True)),
        ("turns", Conditions(turns=3)),
        ("system_prompt", TOLD),
    ],
)
def test_what_all_rows_had_a_request_must_have(reason: str, always: Conditions) -> None:
    coverage = covered_conditions([always] * 50 + [PLAIN] * (LEAST_ROWS - 1))
    found = coverage.uncovered(PLAIN)
    assert found is not None
    assert found.reason == reason
    assert coverage.uncovered(always) is None
    assert coverage.n == 50
    assert Coverage.from_json(coverage.to_json()) == coverage


def test_settings_are_compared_as_the_tiers_use_them() -> None:
    greedy, hot = {"temperature": 0.0, "max_tokens": 9}, {"temperature": 1.0}
    asked = Conditions(decoding='{"temperature":0.0}')
    assert COVERAGE.uncovered(asked, defaults=[greedy, greedy]) is None
    found = COVERAGE.uncovered(asked, defaults=[greedy, hot])
    assert found is not None
    assert found.reason == "decoding"


def test_a_distant_prompt_is_not_covered_once_its_distance_is_known() -> None:
    assert COVERAGE.uncovered(PLAIN, 0.8) is None
    found = COVERAGE.uncovered(PLAIN, 0.81)
    assert found is not None
    assert found.reason == "novelty"


def test_shorter_answers_than_the_rows_permitted_are_not_covered() -> None:
    coverage = covered_conditions([replace(PLAIN, max_tokens=16 + i) for i in range(60)])
    assert coverage.uncovered(replace(PLAIN, max_tokens=coverage.max_tokens)) is None
    assert coverage.uncovered(PLAIN) is None
    found = coverage.uncovered(replace(PLAIN, max_tokens=16))
    assert found is not None
    assert found.reason == "max_tokens"


def test_a_limit_below_the_longest_answer_would_cut_what_was_certified_whole() -> None:
    coverage = covered_conditions([PLAIN] * 50, longest=40)
    assert coverage.uncovered(replace(PLAIN, max_tokens=40)) is None
    assert coverage.uncovered(replace(PLAIN, max_tokens=39)) is not None
    few = covered_conditions([PLAIN] * 50 + [replace(PLAIN, max_tokens=5)], longest=40)
    assert few.max_tokens == 40, "one row with a limit is no evidence for that limit"
    assert few.n == 50


def test_a_length_that_is_left_to_the_tiers_is_covered_where_rows_left_it_to_them() -> None:
    """The tiers' own lengths differ: a request without a limit gets what rows without one got."""
    short, long = {"max_tokens": 128}, {"max_tokens": 512}
    left = covered_conditions([PLAIN] * 50, longest=500)
    assert left.uncovered(PLAIN, defaults=[short, long]) is None
    assert left.uncovered(replace(PLAIN, max_tokens=500), defaults=[short, long]) is None
    assert left.uncovered(replace(PLAIN, max_tokens=300), defaults=[short, long]) is not None
    limited = covered_conditions([replace(PLAIN, max_tokens=256)] * 50, longest=250)
    assert limited.uncovered(PLAIN, defaults=[long, long]) is None
    found = limited.uncovered(PLAIN, defaults=[short, long])
    assert found is not None
    assert found.why == "128 tokens at most, and no fewer than 250 were certified"
    assert Coverage.from_json(limited.to_json()) == limited


def test_of_a_request_that_permits_longer_answers_no_longer_one_is_covered() -> None:
    """Rows with a limit were cut there: what a longer answer would have been worth, nobody has seen."""
    short, long = {"max_tokens": 128}, {"max_tokens": 512}
    limited = covered_conditions([replace(PLAIN, max_tokens=16 + i) for i in range(60)])
    assert limited.most_tokens == 16 + 60 - LEAST_ROWS
    assert limited.longest_answer(PLAIN, [short, long]) == limited.most_tokens, "the tiers' own limits are longer"
    assert limited.longest_answer(replace(PLAIN, max_tokens=57), [short, long]) == limited.most_tokens
    assert limited.longest_answer(replace(PLAIN, max_tokens=56), [short, long]) is None
    left = covered_conditions([PLAIN] * 50)
    assert left.longest_answer(PLAIN, [short, long]) is None
    assert left.longest_answer(replace(PLAIN, max_tokens=1000), [short, long]) == 128, "of the cheaper tier"
    assert left.longest_answer(replace(PLAIN, max_tokens=1000), [{}]) is None, "the tier has no limit of its own"
    both = covered_conditions([PLAIN] * 50 + [replace(PLAIN, max_tokens=300)] * LEAST_ROWS)
    assert both.longest_answer(replace(PLAIN, max_tokens=400), [short, long]) == 300
    for coverage in (limited, left, both):
        assert Coverage.from_json(coverage.to_json()) == coverage
    earlier = {name: value for name, value in limited.to_json().items() if name != "most_tokens"}
    assert Coverage.from_json(earlier).to_json() == earlier, "what a certificate is bound to stays the same"


def test_coverage_is_kept_as_json_and_told_in_words() -> None:
    assert Coverage.from_json(COVERAGE.to_json()) == COVERAGE
    assert "up to 2 turns" in COVERAGE.summary()
    with pytest.raises(ValueError, match="turns"):
        Coverage.from_json({"decodings": [], "system_prompts": []})


def test_texts_are_compared_by_their_least_part_and_their_spelling() -> None:
    coverage = replace(COVERAGE, text=TextCoverage(90, 1.0, 0.14, 0.4, 0.7))
    assert coverage.unlike(1.0, 0.14, 0.4, 0.7) is None
    assert coverage.unlike(None, None) is None
    reasons = [coverage.unlike(*measured) for measured in ((1.01, 0.0), (0.0, 0.15), (0, 0, 0.41), (0, 0, 0, 0.71))]
    assert [why and why.reason for why in reasons] == ["parts", "spelling", "spelling", "parts"]
    assert Coverage.from_json(coverage.to_json()) == coverage
    assert "1.00 in log-odds" in coverage.summary()


def test_a_certificate_that_knows_nothing_of_sentences_left_out_compares_none_and_is_written_as_it_was() -> None:
    former = replace(COVERAGE, text=TextCoverage(90, 1.0, 0.14, 0.4))
    assert former.unlike(0.0, 0.0, 0.0, 99.0) is None
    assert set(former.to_json()["text"]) == {"part_chars", "drop", "unfamiliar", "unfamiliar_part"}
    assert Coverage.from_json(former.to_json()) == former
    now = replace(former, text=replace(former.text, sent_down=True, averaged=True))
    assert Coverage.from_json(now.to_json()) == now
    assert Coverage.from_json(former.to_json()).text.sent_down is False


def test_a_certificate_that_knows_nothing_of_texts_compares_none_and_is_written_as_it_was() -> None:
    assert COVERAGE.text == NOT_COMPARED
    assert COVERAGE.unlike(99.0, 1.0) is None
    assert "text" not in COVERAGE.to_json()
    assert Coverage.from_json(COVERAGE.to_json()) == COVERAGE


@pytest.mark.parametrize(
    "change", [{"part_chars": 0}, {"drop": "nan"}, {"unfamiliar": -1}, {"drop": "inf"}, {"cut_drop": -1}]
)
def test_limits_of_texts_that_are_none_are_refused(change: dict[str, object]) -> None:
    written = replace(COVERAGE, text=TextCoverage(90, 1.0, 0.14, 0.4)).to_json()
    with pytest.raises(ValueError, match="a certificate's coverage cannot be read"):
        Coverage.from_json({**written, "text": {**written["text"], **change}})


AGENT = Conditions(tools=True, declared="aa" * 32)
EXTRACTION = Conditions(response_format="json_schema", schema="bb" * 32)
WHICH = [("tools", AGENT, "declared"), ("response_format", EXTRACTION, "schema")]


@pytest.mark.parametrize(("reason", "certified", "field"), WHICH)
def test_other_tools_and_other_schemas_than_the_rows_had_are_not_covered(
    reason: str, certified: Conditions, field: str
) -> None:
    """An agent whose tools are fixed stays covered; a caller who writes instructions into a description does not."""
    coverage = covered_conditions([certified] * 50 + [PLAIN] * 50)
    assert coverage.uncovered(certified) is None
    assert coverage.uncovered(PLAIN) is None
    found = coverage.uncovered(replace(certified, **{field: "cc" * 32}))
    assert found is not None
    assert found.reason == reason
    assert "cccccccccccc" in found.why
    assert Coverage.from_json(coverage.to_json()) == coverage
    assert (certified.declared or certified.schema)[:12] in coverage.summary()


@pytest.mark.parametrize(("reason", "certified", "field"), WHICH)
def test_what_is_too_large_to_be_compared_is_covered_by_nothing(
    reason: str, certified: Conditions, field: str
) -> None:
    large = replace(certified, **{field: LARGE})
    coverage = covered_conditions([large] * 50 + [certified] * 50 + [PLAIN] * 50)
    found = coverage.uncovered(large)
    assert found is not None
    assert (found.reason, coverage.left_out) == (reason, ((reason, 50),))
    assert "too large" in found.why
    assert Conditions.from_columns(large.columns()) == large


@pytest.mark.parametrize(("reason", "certified", "field"), WHICH)
def test_a_certificate_that_does_not_name_tools_or_schemas_covers_none(
    reason: str, certified: Conditions, field: str
) -> None:
    """Those of before said that rows had tools, or a schema, and not which."""
    named = covered_conditions([certified] * 50 + [PLAIN] * 50).to_json()
    earlier = {name: value for name, value in named.items() if name not in ("declared_tools", "format_schemas")}
    read = Coverage.from_json(earlier)
    found = read.uncovered(certified)
    assert found is not None
    assert found.reason == reason
    assert read.uncovered(PLAIN) is None
    assert read.to_json() == earlier, "what a certificate is bound to stays the same"
