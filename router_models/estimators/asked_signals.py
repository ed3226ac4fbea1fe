"""Signals that take further calls once an answer is there: who is asked what, how replies are read, at what price.

`collect`, `train` and the served version go by this one table (`ASKED_SIGNALS`, and `reward:NAME` of every verifier
model that the graph runs), so that a verifier is fitted, certified and served with the same question. A version keeps
the digest of every question that its verifiers read (`question_digest`); a graph that would ask otherwise does not
serve it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from router_models.errors import DataError
from router_models.estimators.questions.before_answer import FIRST_TOKEN_ENTROPY, P_YES
from router_models.estimators.questions.last_tier import LIKELIHOOD, VERDICT
from router_models.estimators.questions.own_answer import AGREEMENT, P_TRUE, SELF_VERIFICATION
from router_models.estimators.questions.reward import reward_row
from router_models.estimators.questions.terms import AskedSettings, AskedSignal, AskedTier
from router_models.estimators.signals import SIGNALS, TierKind
from router_models.pricing.prices import prices_digest_input
from router_models.types import Completion, Query
from router_models.types.exchange import verifier_of

BIND = "signal."
"""Begins the names of what binds a certificate, or a table of outcomes, to how a signal is asked for."""

ASKED_SIGNALS: Mapping[str, AskedSignal] = MappingProxyType(
    {row.name: row for row in (P_YES, FIRST_TOKEN_ENTROPY, P_TRUE, SELF_VERIFICATION, AGREEMENT, VERDICT, LIKELIHOOD)}
)
"""The signals that tiers are asked for, by name, the cheapest of the answering tier first. Verifier models' scores
(`reward:NAME`) come after them.
"""


def asked_signal(name: str) -> AskedSignal:
    """Return the row of a signal that is asked for; DataError for one that is none."""
    if (row := ASKED_SIGNALS.get(name)) is not None:
        return row
    if (verifier := verifier_of(name)) is not None:
        return reward_row(name, verifier)
    known = ", ".join(ASKED_SIGNALS)
    raise DataError(f"no signal that is asked for: {name}; there are {known}, and reward:NAME of a verifier model")


def asked_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return those names that are asked for, in the order of the table, each once."""
    wanted = set(names)
    tiers = tuple(name for name in ASKED_SIGNALS if name in wanted)
    return (*tiers, *sorted(name for name in wanted if verifier_of(name) is not None))


def check_asked(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of asked signals in the order of the table; DataError for one that is none."""
    names = tuple(names)
    for name in names:
        asked_signal(name)
    return asked_among(names)


def cannot_ask(name: str, tier: str, last: str, kinds: Mapping[str, TierKind], settings: AskedSettings) -> str | None:
    """Return why a signal of a tier's answers cannot be asked for in a graph, in a sentence; None where it can.

    Parameters
    ----------
    name : str
        An asked signal.
    tier, last : str
        The tier whose answers are judged, and the last one.
    kinds : mapping of tier to TierKind
        What comes with their replies; a tier that is not named: everything that an engine returns.
    settings : AskedSettings
        Its `verifiers` are the models that the graph runs beside its tiers.
    """
    row = asked_signal(name)
    if row.asks is AskedTier.VERIFIER:
        if row.verifier in settings.verifiers:
            return None
        known = ", ".join(settings.verifiers) or "none"
        return (
            f"the signal {name} is the score of a verifier model {row.verifier!r}; of `verifiers` there are: {known}"
        )
    if row.asks is AskedTier.LAST and tier == last:
        return f"the signal {name} is the last tier's word on a cheaper answer: there is none of {last!r} itself"
    asked = row.who(tier, last)
    kind = kinds.get(asked, TierKind.VLLM)
    if kind in row.kinds_under(settings):
        return None
    return f"the signal {name} is asked of tier {asked!r}, which is {kind.value}: it needs {SIGNALS[name].needs}"


def question_digest(name: str, settings: AskedSettings) -> str:
    """Return the sha256 of what is asked for a signal: prompts, decoding, how many calls, how replies are compared.

    Of a verifier model also what it is (`VerifierTerms.digest`) and its price.
    """
    probe, answer, row = Query.from_prompt("the question"), Completion("the answer"), asked_signal(name)
    calls = [
        [[(message.role, message.content) for message in call.messages], dict(call.parameters)]
        for call in row.calls(probe, answer, settings)
    ]
    compared: str = settings.match if name == "agreement" else ""
    if row.asks is AskedTier.VERIFIER:
        model = settings.verifiers.get(row.verifier)
        compared = "" if model is None else f"{model.digest} {json.dumps(prices_digest_input({'its': model.price}))}"
    return hashlib.sha256(json.dumps([name, calls, compared], sort_keys=True).encode()).hexdigest()


def question_binds(names: Iterable[str], settings: AskedSettings) -> dict[str, str]:
    """Return what a certificate of a version that reads these signals is bound to: `signal.NAME` → digest."""
    return {f"{BIND}{name}": question_digest(name, settings) for name in names}


def may_be_asked(completion: Completion) -> bool:
    """Return whether an answer is one that can be asked about: text, and no call of a tool."""
    return bool(completion.text.strip()) and not completion.tool_calls
