"""Sentences to change, phrases to translate, things to say."""

import random
from types import SimpleNamespace

from router_models.data.starter.families.base import exact_task, settled
from router_models.data.starter.families.typed.language_data import ASKED_PHRASES, CHANGES, SAYINGS
from router_models.data.starter.families.typed.level import of_level, states_task
from router_models.data.starter.task import Draft

_ASK = {
    "past": ("Rewrite this sentence in the past tense: {0}", 'Put "{0}" in the past tense.', "past tense of: {0}"),
    "future": ("Rewrite this sentence in the future tense: {0}", 'Change to future tense: "{0}"'),
    "spelling": ("Fix the spelling: {0}", "Correct the spelling mistake: {0}", "fix typos: {0}"),
    "grammar": ("Correct this sentence: {0}", 'Fix the grammar: "{0}"', "Is this right? If not, correct it: {0}"),
    "upper": ("Make this uppercase: {0}", "convert to uppercase: {0}"),
    "negative": ("Make this sentence negative: {0}", 'Rewrite as a negative sentence: "{0}"'),
    "question": ("Turn this sentence into a question: {0}", 'Rewrite as a yes-no question: "{0}"'),
    "plural": ("Rewrite this sentence in the plural: {0}",),
    "passive": ("Rewrite in the passive voice: {0}", 'Change this to passive voice: "{0}"'),
    "contraction": ("Rewrite this sentence with a contraction: {0}", "Use a contraction: {0}"),
}
_TRANSLATE = (
    'Translate "{1}" to {0}.',
    'How do you say "{1}" in {0}?',
    "translate to {0}: {1}",
    "how do you say {1} in {0}",
    "Translate this to {0}: {1}",
    'What is "{1}" in {0}?',
)
_SAY = ("Say {0}", "Say: {0}", 'Repeat after me: "{0}"', "Repeat this: {0}", 'Reply with "{0}"', "say {0}!")


def _level_of(place: int) -> float:
    """How far down its kind's list a change stands, from 0 to 1."""
    kinds = [kind for kind, *_ in CHANGES]
    return kinds[:place].count(kinds[place]) / kinds.count(kinds[place])


_BY_LEVEL = [CHANGES[place] for place in sorted(range(len(CHANGES)), key=_level_of)]


def _change(rng: random.Random, difficulty: int, language: str) -> Draft:
    kind, sentence, *accepted = rng.choice(of_level(_BY_LEVEL, difficulty))
    prompt = settled(_ASK[kind], sentence).format(sentence)
    if kind == "upper":
        return exact_task(prompt, accepted[0], max_tokens=64)
    return states_task(prompt, [form.rstrip(".") for form in accepted])


def _phrase(rng: random.Random, difficulty: int, language: str) -> Draft:
    target, phrase, *accepted = rng.choice(of_level(ASKED_PHRASES, difficulty))
    return states_task(settled(_TRANSLATE, target + phrase).format(target, phrase), accepted)


def _saying(rng: random.Random, difficulty: int, language: str) -> Draft:
    saying = rng.choice(of_level(SAYINGS, difficulty))
    return Draft(settled(_SAY, saying).format(saying), "says", {"text": saying}, saying, 64)


changes = SimpleNamespace(draw=_change)
phrases = SimpleNamespace(draw=_phrase)
sayings = SimpleNamespace(draw=_saying)
