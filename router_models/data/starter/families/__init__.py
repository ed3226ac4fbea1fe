"""The families, by name, with the languages they speak and their share of a task set.

Weights: the families a tiny model can often do (find, copy, classify, finish a phrase) count double, so that
about half of a task set is worth sending to one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from router_models.data.starter.families import typed
from router_models.data.starter.families.base import Family
from router_models.data.starter.families.documents import (
    functions,
    json_editing,
    json_extraction,
    lookup,
    reading,
    sentiment,
    topics,
)
from router_models.data.starter.families.knowledge import everyday, geography, science, trivia
from router_models.data.starter.families.numbers import (
    arithmetic,
    calendar_steps,
    conversion,
    counting,
    dates,
    logic,
    sequences,
    sorting,
    word_problems,
)
from router_models.data.starter.families.words import (
    categories,
    completion,
    copying,
    grammar,
    letters,
    odd_one_out,
    opposites,
    translation,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered family."""

    family: Family
    languages: tuple[str, ...]
    weight: int


FAMILIES: Mapping[str, Entry] = {
    "geography": Entry(geography, geography.LANGUAGES, 2),
    "science": Entry(science, science.LANGUAGES, 1),
    "trivia": Entry(trivia, trivia.LANGUAGES, 1),
    "opposites": Entry(opposites, opposites.LANGUAGES, 1),
    "completion": Entry(completion, completion.LANGUAGES, 1),
    "categories": Entry(categories, categories.LANGUAGES, 2),
    "sentiment": Entry(sentiment, sentiment.LANGUAGES, 2),
    "topics": Entry(topics, topics.LANGUAGES, 2),
    "lookup": Entry(lookup, lookup.LANGUAGES, 2),
    "reading": Entry(reading, reading.LANGUAGES, 1),
    "json_extraction": Entry(json_extraction, json_extraction.LANGUAGES, 2),
    "json_editing": Entry(json_editing, json_editing.LANGUAGES, 1),
    "copying": Entry(copying, copying.LANGUAGES, 2),
    "letters": Entry(letters, letters.LANGUAGES, 1),
    "grammar": Entry(grammar, grammar.LANGUAGES, 1),
    "translation": Entry(translation, translation.LANGUAGES, 1),
    "calendar": Entry(calendar_steps, calendar_steps.LANGUAGES, 1),
    "arithmetic": Entry(arithmetic, arithmetic.LANGUAGES, 1),
    "word_problems": Entry(word_problems, word_problems.LANGUAGES, 1),
    "conversion": Entry(conversion, conversion.LANGUAGES, 1),
    "dates": Entry(dates, dates.LANGUAGES, 1),
    "sequences": Entry(sequences, sequences.LANGUAGES, 1),
    "sorting": Entry(sorting, sorting.LANGUAGES, 1),
    "counting": Entry(counting, counting.LANGUAGES, 1),
    "odd_one_out": Entry(odd_one_out, odd_one_out.LANGUAGES, 1),
    "logic": Entry(logic, logic.LANGUAGES, 1),
    "functions": Entry(functions, functions.LANGUAGES, 1),
}

EVERYDAY: Mapping[str, Entry] = {
    "word_forms": Entry(everyday.word_forms, everyday.LANGUAGES, 2),
    "drafting": Entry(everyday.drafting, everyday.LANGUAGES, 3),
    "records": Entry(everyday.records, everyday.LANGUAGES, 3),
    "notes": Entry(everyday.notes, everyday.LANGUAGES, 2),
}
"""Plain requests, drawn unframed: the easy share of traffic."""

TYPED: Mapping[str, Entry] = {
    "typed_sums": Entry(typed.sums, typed.LANGUAGES, 5),
    "typed_facts": Entry(typed.facts, typed.LANGUAGES, 7),
    "typed_meanings": Entry(typed.word_meanings, typed.LANGUAGES, 2),
    "typed_terms": Entry(typed.terms, typed.LANGUAGES, 2),
    "typed_yes_no": Entry(typed.yes_no, typed.LANGUAGES, 2),
    "typed_changes": Entry(typed.changes, typed.LANGUAGES, 2),
    "typed_phrases": Entry(typed.phrases, typed.LANGUAGES, 2),
    "typed_lists": Entry(typed.lists, typed.LANGUAGES, 2),
    "typed_code": Entry(typed.code, typed.LANGUAGES, 1),
    "typed_sayings": Entry(typed.sayings, typed.LANGUAGES, 1),
}
"""Questions as people type them first, drawn unframed and asked without a limit of length."""
FIGURES: Mapping[str, Entry] = {"typed_figures": Entry(typed.figures, typed.LANGUAGES, 1)}
"""More of these, sums in figures alone: so short a prompt lies far from all others, and a few of a form cover none."""
