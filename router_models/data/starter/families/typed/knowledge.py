"""Facts, meanings of words, terms to explain, and yes or no."""

import random
import re
from types import SimpleNamespace

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.typed.facts_data import ASKED_FACTS
from router_models.data.starter.families.typed.level import of_level, states_task
from router_models.data.starter.families.typed.meanings_data import ASKED_WORDS, TERMS
from router_models.data.starter.families.typed.yes_no_data import ASKED_YES_NO
from router_models.data.starter.task import Draft

_WORD = (
    'What does "{0}" mean?',
    "what does {0} mean",
    'What is the meaning of "{0}"?',
    "Define {0}",
    'What does the word "{0}" mean?',
    "meaning of {0}",
)
_TERM = (
    "What is {0}?",
    "what is {0}",
    "Explain {0} in one sentence.",
    "Define {0}.",
    "What's {0}?",
    "Explain what {0} is.",
)
_SMALL = frozenset("a an the of in is than to with more most do does".split())


def _fact(rng: random.Random, difficulty: int, language: str) -> Draft:
    question, *answers = rng.choice(of_level(ASKED_FACTS, difficulty))
    return states_task(question, answers)


def _word_meaning(rng: random.Random, difficulty: int, language: str) -> Draft:
    word, *meanings = rng.choice(of_level(ASKED_WORDS, difficulty))
    return states_task(settled(_WORD, word).format(word), meanings)


def _term(rng: random.Random, difficulty: int, language: str) -> Draft:
    term, groups = rng.choice(of_level(TERMS, difficulty))
    solution = f"It is {', '.join(group[0] for group in groups)} and more of that kind."
    return Draft(settled(_TERM, term).format(term), "explains", {"groups": groups}, solution, 256)


def _yes_no(rng: random.Random, difficulty: int, language: str) -> Draft:
    question, answer = rng.choice(of_level(ASKED_YES_NO, difficulty))
    about = [word for word in re.findall(r"[\w.]+", question.rstrip("?").casefold())[1:] if word not in _SMALL]
    reference = {"answer": answer, "options": ["yes", "no"], "about": about}
    return Draft(question, "yes_no", reference, f"{answer.title()}.", 64)


facts = SimpleNamespace(draw=_fact)
word_meanings = SimpleNamespace(draw=_word_meaning)
terms = SimpleNamespace(draw=_term)
yes_no = SimpleNamespace(draw=_yes_no)
