"""The calls for signals that a batch will take, at the rates of those who are asked: for its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import ArtifactError, DataError
from router_models.estimators.asked_signals import asked_signal, check_asked
from router_models.estimators.questions.before_answer import FIRST_TOKEN_ENTROPY, P_YES
from router_models.estimators.questions.terms import AskedSettings
from router_models.planning.simulation.passes import AskedPass, EngineRate
from serve_graph.cli.batch.quality.foretold import absent_registry
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError
from serve_graph.policy.bindings import asked_settings
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, serving_version

CHEAP, LAST = "the cheap tier", "the last tier"
NOT_KNOWN = "which signals are asked for is not known"
INSTEAD = "or say them in the rates' `signals` ([] = none)"
BEFORE_ROUTING = (P_YES.name, FIRST_TOKEN_ENTROPY.name)


@dataclass(frozen=True, slots=True)
class PlannedSignals:
    """The signals that a batch asks for: `about` answers, and `before` a tier is chosen. `why`: who says so."""

    about: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def named(cls, about: Sequence[str], before: Sequence[str], where: str) -> PlannedSignals:
        """Those that a file names; raises ServeGraphError for one that there is none of, or not then."""
        try:
            why = f"{where} names {'them' if about or before else 'none'}"
            found = cls(check_asked(about), check_asked(before), why)
        except DataError as error:
            raise ServeGraphError(f"{where}: {error}") from None
        if late := [name for name in found.before if name not in BEFORE_ROUTING]:
            can = " and ".join(BEFORE_ROUTING)
            raise ServeGraphError(f"{where}: {' and '.join(late)} cannot be asked for before routing; {can} can")
        return found

    @classmethod
    def served(cls, config: GraphConfig) -> PlannedSignals:
        """Those of the version that a graph would serve; none where it would serve none.

        Raises ServeGraphError where that cannot be known, with what to do.
        """
        from_registry = config.policy.version not in ("none", "builtin")
        if from_registry and (absent := absent_registry(config.registry_uri)) is not None:
            return cls(why=f"there is no registry {absent}, {INSTEAD}")
        try:
            return cls.of(serving_version(config), config)
        except ArtifactError as error:
            raise ServeGraphError(f"{NOT_KNOWN}: {error}; mend that, {INSTEAD}") from error

    @classmethod
    def of(cls, found: Served, config: GraphConfig) -> PlannedSignals:
        """Those of a version, as `served`."""
        if found.version is None:
            if found.refused or found.unreachable:
                raise ServeGraphError(f"{NOT_KNOWN}: {found.reason}; mend that, {INSTEAD}")
            return cls(why=f"{found.reason}, {INSTEAD}")
        policy = ServedVersion.of(found, config).policy
        is_judged = config.policy.share is None
        about = check_asked({name for names in policy.asked.values() for name in names if is_judged})
        said = "asks for them" if about or policy.asked_first else "asks for none"
        return cls(about, policy.asked_first, f"{policy.name} {said}")


def asked_passes(
    signals: PlannedSignals,
    cheap: EngineRate,
    last: EngineRate,
    verifiers: Mapping[str, EngineRate],
    config: GraphConfig | None,
) -> tuple[AskedPass, ...]:
    """The passes of calls for signals, in the order of a run: one for each tier, or verifier model, that is asked.

    Tokens are foreseen as `train` foresees them, from the cheap tier's mean prompt and answer. `config`: the graph,
    whose settings of the questions count; None: the usual ones.

    Raises ServeGraphError for a verifier model whose rates are missing, with what to do.
    """
    settings = AskedSettings() if config is None else asked_settings(config, bound=False)
    prompt, answer = np.array([cheap.prompt_tokens]), np.array([cheap.completion_tokens])
    found: dict[tuple[bool, str], tuple[list[str], float, float]] = {}
    for is_before, names in ((True, signals.before), (False, signals.about)):
        for name in names:
            row = asked_signal(name)
            sent, made = row.tokens(prompt, np.zeros(1) if is_before else answer, settings)
            known, put, out = found.get((is_before, row.who(CHEAP, LAST)), ([], 0.0, 0.0))
            asked = [*known, name], put + float(sent[0]), out + float(made[0])
            found[is_before, row.who(CHEAP, LAST)] = asked
    engines = {CHEAP: cheap, LAST: last, **verifiers}
    passes = []
    for (is_before, who), (asked_for, put, out) in sorted(found.items(), key=_in_order):
        if who not in engines:
            raise ServeGraphError(
                f"{', '.join(asked_for)} ({signals.why}): the rates say nothing of the verifier model {who!r}. Add "
                f"`verifiers: {{{who}: {{prompt_tokens_per_s: …, gpus: …, load_s: …}}}}` to them, with `gpus: 0` for "
                "an API that somebody else runs"
            )
        engine = replace(engines[who], prompt_tokens=put, completion_tokens=out)
        passes.append(AskedPass(tuple(asked_for), who, engine, is_before))
    return tuple(passes)


def _in_order(one: tuple[tuple[bool, str], object]) -> tuple[int, str]:
    (is_before, who), _ = one
    return (0 if is_before else {CHEAP: 1, LAST: 2}.get(who, 3)), who


def signals_line(signals: PlannedSignals, passes: Sequence[AskedPass]) -> str:
    """What of calls for signals a plan counts, in a sentence."""
    if not passes:
        return f"No calls for signals are counted: {signals.why}"
    parts = [
        f"{', '.join(one.signals)} of {one.asked}{' before routing' if one.before else ''} "
        f"({one.engine.prompt_tokens:.0f} + {one.engine.completion_tokens:.0f} tokens a row)"
        for one in passes
    ]
    return f"Calls for signals are passes of their own ({signals.why}): {'; '.join(parts)}"
