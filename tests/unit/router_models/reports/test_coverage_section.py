"""Reports say what a certificate covers; plans and evaluations what one would, and how many prompts are missing."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.reports.coverage import (
    NEEDED,
    counted_words,
    coverage_section,
    foreseen_conditions,
    foreseen_rows,
    foreseen_section,
    foreseen_words,
)
from router_models.types.conditions import PLAIN, Conditions
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import Attacked, TextCoverage
from router_models.versions.covering.covered_conditions import covered_conditions

TOLD = Conditions(system_prompt="ab" * 32)
WARM = Conditions(decoding='{"temperature":0.7}')
ROWS = [PLAIN] * 60 + [TOLD] * 30 + [WARM] * 10


def asked(rows: list[Conditions]) -> OutcomeTable:
    cells = pd.DataFrame([row.columns() for row in rows])
    named = cells.assign(prompt=[f"question {i}" for i in range(len(rows))], small=1.0, large=1.0)
    return table_of(parse_columns(named))


def test_a_report_shows_every_condition_and_why_prompts_do_not_count() -> None:
    coverage = covered_conditions(ROWS, novelty=0.75, longest=64, distances=[1.0, *[0.5] * 99])
    page = coverage_section(coverage)
    for line in (
        "| sampling settings | the tiers' own |",
        "| system prompt | none, abababababab |",
        "| turns of the user | 1 to 1 |",
        "| tools declared | no: none |",
        "| max_tokens | from 64 |",
        "| distance from the training data | up to 0.750 |",
        "| hard prompts, rewritten to be sent down | not simulated |",
    ):
        assert line in page
    assert "89 of 100 certification prompts count; 11.0% are not covered (decoding 10, novelty 1)." in page
    assert counted_words(covered_conditions([PLAIN] * 30)).startswith("All 30")


def test_a_report_says_in_capitals_where_rewritten_prompts_are_not_held() -> None:
    held = Attacked(200, 0.1, "junk before", 0.02, 0.06, 0.25)
    for found, said in (
        (held, "rewritten: +2.0%, up to +6.0%, of 200 hard prompts sent down (junk before)"),
        (replace(held, high=0.11), "NOT HELD within 0.1 where rewritten: +2.0%, up to +11.0%"),
        (replace(held, rise=-0.6, high=-0.5), "no larger share of 200 hard prompts sent down, 60.0 points less (junk"),
        (replace(held, rise=-0.01), "hard prompts sent down, 1.0 points less, up to +6.0% (junk before)"),
        (replace(held, rise=0.0, high=0.12), "NOT HELD within 0.1 where rewritten: no larger share of 200 hard"),
    ):
        page = coverage_section(Coverage(text=TextCoverage(75, attacked=found)))
        assert said in page
        assert "25% of TUNE's prompts that are sent down are not covered for it" in page


def test_a_plan_says_which_conditions_lack_how_many_prompts() -> None:
    foreseen = foreseen_conditions(asked(ROWS))
    missing = {(one.condition, one.value): one.missing for one in foreseen}
    assert missing == {
        ("decoding", "the tiers' own"): 0,
        ("decoding", WARM.decoding): NEEDED - 10,
        ("system_prompt", "none"): 0,
        ("system_prompt", "ab" * 6): NEEDED - 30,
    }
    assert f"| decoding | {WARM.decoding} | 10 | {NEEDED - 10} missing |" in foreseen_section(foreseen)
    assert f"(30, {NEEDED - 30} missing)" in foreseen_words(foreseen)


def test_more_turns_and_longer_answers_are_foreseen_with_fewer_and_shorter_ones() -> None:
    """Enough prompts permit 16 tokens; two and three turns are enough together for two."""
    rows = [Conditions(max_tokens=16)] * 60 + [Conditions(max_tokens=144, turns=2)] * 40
    rows += [Conditions(max_tokens=8)] * 5 + [Conditions(max_tokens=16, turns=3)] * 10
    missing = {(one.condition, one.value): one.missing for one in foreseen_conditions(asked(rows))}
    assert missing == {
        ("max_tokens", "from 16"): 0,
        ("max_tokens", "below 16"): NEEDED - 5,
        ("turns", "1"): 0,
        ("turns", "2"): 0,
        ("turns", "3"): NEEDED - 10,
    }


def test_rows_under_conditions_of_too_few_prompts_are_foreseen_to_be_left_out() -> None:
    assert foreseen_rows(asked(ROWS)).tolist() == [row == PLAIN for row in ROWS]
    assert foreseen_rows(asked([PLAIN, WARM])).all(), "too few prompts to say"


def test_single_questions_alone_are_told_in_a_sentence() -> None:
    page = foreseen_section(foreseen_conditions(asked([PLAIN] * 5)))
    assert page.startswith("All 5 prompts are single questions at the tiers' own settings")
