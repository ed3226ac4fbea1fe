"""Questions as people type them first: short, unframed, no form of answer asked for, no limit of length.

Sums, facts, meanings, sentences to change, phrases to translate or repeat, lists, yes or no, small functions. Whoever
meets an endpoint tries such things, and what is unlike the training data is not covered. Lists in the `_data` modules
go from easy to hard: a fifth of each is a level.
"""

from router_models.data.starter.families.typed.code import code
from router_models.data.starter.families.typed.knowledge import facts, terms, word_meanings, yes_no
from router_models.data.starter.families.typed.language import changes, phrases, sayings
from router_models.data.starter.families.typed.lists import lists
from router_models.data.starter.families.typed.sums import figures, sums

LANGUAGES = ("en",)
NEVER_ASKED = frozenset(
    {
        "What is 17 * 23?",
        "What is 7 times 6?",
        "2+2",
        "What is 2 + 2?",
        "What is 12*12",
        "solve x+3=10",
        "Who wrote Hamlet?",
        "What is the capital of France?",
        "who invented the telephone",
        "What is a computer?",
        "Translate hello to French.",
        "List three fruits.",
        "Write a Python function that adds two numbers.",
        "Is the earth round?",
    }
)
"""Questions that no table holds, kept to try what is covered."""

__all__ = [
    "LANGUAGES",
    "NEVER_ASKED",
    "changes",
    "code",
    "facts",
    "figures",
    "lists",
    "phrases",
    "sayings",
    "sums",
    "terms",
    "word_meanings",
    "yes_no",
]
