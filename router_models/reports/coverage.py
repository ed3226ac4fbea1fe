"""What a certificate covers, and what one on a table's prompts would cover: for reports, plans and evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from router_models.data.formats.condition_columns import condition_words, conditions_of_table
from router_models.data.groups import one_of_each
from router_models.data.outcomes import OutcomeTable
from router_models.errors import by_number
from router_models.reports.markdown import table
from router_models.training.splits import SPLIT_SHARES
from router_models.types import BoolArray
from router_models.types.condition_cells import CONDITION_COLUMNS, PLAIN_WORDS
from router_models.types.conditions import PLAIN, Conditions
from router_models.types.coverage import Coverage
from router_models.versions.covering.covered_conditions import LEAST_ROWS, covered_conditions

NEEDED = round(LEAST_ROWS / SPLIT_SHARES["cert"])
"""The prompts of a table of which about `LEAST_ROWS` will be in CERT."""


@dataclass(frozen=True, slots=True)
class ForeseenCondition:
    """Hold how many prompts were asked under one condition, and how many more a certificate would need to cover it."""

    condition: str
    value: str
    prompts: int
    missing: int


def coverage_section(coverage: Coverage) -> str:
    """Render what a certificate covers, and the prompts that it did not count by the reason why."""
    rows = [
        ["condition", "covered"],
        ["sampling settings", ", ".join(known or PLAIN_WORDS["decoding"] for known in coverage.decodings)],
        ["system prompt", ", ".join(known[:12] or "none" for known in coverage.system_prompts)],
        ["turns of the user", f"{coverage.least_turns} to {coverage.turns}"],
        ["response format", ", ".join(known or "text" for known in coverage.response_formats)],
        ["schemas of formats", _digests(coverage.schemas)],
        ["tools declared", f"{_either(coverage.tools, always=coverage.only_tools)}: {_digests(coverage.declared)}"],
        ["tool calls or results in the conversation", _either(coverage.tool_loops, always=coverage.only_tool_loops)],
        ["a begun answer", _either(coverage.prefilled, always=coverage.only_prefilled)],
        ["max_tokens", "not known" if coverage.max_tokens is None else f"from {coverage.max_tokens}"],
        ["tokens of a cheap answer", _lengths(coverage)],
        ["distance from the training data", "any" if coverage.novelty is None else f"up to {coverage.novelty:.3f}"],
        ["hard prompts, rewritten to be sent down", _attacked(coverage)],
    ]
    return f"{table(rows)}\n\n{counted_words(coverage)}"


def counted_words(coverage: Coverage) -> str:
    """Say how many prompts counted as evidence, and why the others did not, in one sentence."""
    left_out = dict(coverage.left_out)
    every = coverage.n + sum(left_out.values())
    if not left_out:
        return f"All {every} certification prompts were asked under these conditions."
    why = ", ".join(f"{name} {count}" for name, count in sorted(left_out.items(), key=lambda item: -item[1]))
    share = sum(left_out.values()) / max(every, 1)
    return (
        f"{coverage.n} of {every} certification prompts {by_number(coverage.n, 'counts', 'count')}; {share:.1%} "
        f"are not covered ({why})."
    )


def foreseen_conditions(prompts: OutcomeTable) -> tuple[ForeseenCondition, ...]:
    """Return what a certificate on these prompts would cover: every condition that any was asked under.

    One row of each group counts. Conditions that no prompt was asked under but the plain one are left out, unless all
    are: a table of single questions gives one line.
    """
    asked = conditions_of_table(prompts.take(one_of_each(prompts.groups)))
    coverage, found = covered_conditions(asked, least=NEEDED), list[ForeseenCondition]()
    for name in CONDITION_COLUMNS:
        told = [_told(one, name, coverage) for one in asked]
        counts = Counter(told)
        if set(counts) == {_told(PLAIN, name, coverage)}:
            continue
        for value, count in counts.most_common():
            have = sum(row.turns >= int(value) for row in asked) if name == "turns" else count
            found.append(ForeseenCondition(name, value, count, max(NEEDED - have, 0)))
    return tuple(found) or (ForeseenCondition("all", "single questions at the tiers' own settings", len(asked), 0),)


def _told(asked: Conditions, name: str, coverage: Coverage) -> str:
    """One condition in words; a length by the least one that is covered, since longer ones are as well."""
    if name != "max_tokens" or asked.max_tokens is None or coverage.max_tokens is None:
        return condition_words(asked, name)
    return f"{'from' if asked.max_tokens >= coverage.max_tokens else 'below'} {coverage.max_tokens}"


def foreseen_rows(prompts: OutcomeTable) -> BoolArray:
    """Return which rows a certificate on these prompts would cover by their conditions, (n,); no label is read."""
    asked = conditions_of_table(prompts)
    one_each = one_of_each(prompts.groups)
    coverage = covered_conditions([row for row, counts in zip(asked, one_each, strict=True) if counts], least=NEEDED)
    if not coverage.n:  # too few prompts for any: what they were asked under says nothing yet
        return np.ones(len(asked), dtype=np.bool_)
    known = {row: coverage.uncovered(row) is None for row in set(asked)}
    return np.array([known[row] for row in asked], dtype=np.bool_)


def foreseen_words(foreseen: tuple[ForeseenCondition, ...]) -> str:
    """Say the same in one sentence."""
    told = ", ".join(
        f"{one.condition} {one.value} ({one.prompts:,}{f', {one.missing} missing' if one.missing else ''})"
        for one in foreseen
    )
    return f"a certificate on these prompts covers: {told}"


def foreseen_section(foreseen: tuple[ForeseenCondition, ...]) -> str:
    """Render which conditions a certificate would cover, and how many prompts the others lack."""
    if len(foreseen) == 1 and foreseen[0].condition == "all":
        return (
            f"All {foreseen[0].prompts:,} prompts are single questions at the tiers' own settings, without system "
            "prompt or tools: a certificate covers such requests alone. Collect what production sends under its "
            "system prompts and settings (columns of outcomes: docs/guides/outcomes.md)."
        )
    rows = [["condition", "value", "prompts", "covered"]]
    rows += [
        [one.condition, one.value, f"{one.prompts:,}", f"{one.missing} missing" if one.missing else "yes"]
        for one in foreseen
    ]
    return (
        f"A certificate covers a condition of which {LEAST_ROWS} of its prompts were asked, about {NEEDED} of a "
        f"table's; nothing is promised of other requests, and such rows count as no evidence.\n\n{table(rows)}"
    )


def _lengths(coverage: Coverage) -> str:
    """Up to which length an answer is covered, whatever a request permits."""
    known = "" if coverage.most_tokens is None else f"up to {coverage.most_tokens}"
    if coverage.own_limits:
        return f"{known}{', or ' if known else 'up to '}what its tier permits by itself"
    return known or "any"


def _attacked(coverage: Coverage) -> str:
    """What simulated attacks on TUNE's hard prompts came to under the limits on parts, and what these leave out."""
    found = coverage.text.attacked
    if found is None:
        return "not simulated"
    return f"{found.summary()}; {found.price:.0%} of TUNE's prompts that are sent down are not covered for it"


def _digests(known: Iterable[str]) -> str:
    return ", ".join(one[:12] or "none" for one in known) or "none"


def _either(some: bool, *, always: bool) -> str:
    return "always" if always else "yes" if some else "no"
