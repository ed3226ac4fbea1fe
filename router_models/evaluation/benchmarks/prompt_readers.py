"""What a local language model makes of prompts before anything is answered: P(yes) for `asked`, states for `probe`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from router_models.data.features import cached_embeddings
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers.language_model.p_yes import PYesRouter, YesEncoder
from router_models.estimators.routers.language_model.probe import HiddenStateEncoder

MAX_TOKENS = 256


def read_by(table: OutcomeTable, folder: Path, cache: Path | None, max_tokens: int = MAX_TOKENS) -> OutcomeTable:
    """The table with `prompts.states` and the column `p_yes`, as the transformers model in `folder` gives them.

    Prompts are cut to `max_tokens` tokens. A column `p_yes` that is there already stays: it is the tier's own word.
    What was read is kept in `cache` (None: nowhere). ArtifactError where the folder holds no model.
    """
    texts, name = table.prompts.texts, PYesRouter().column
    states = cached_embeddings(HiddenStateEncoder(folder, max_tokens=max_tokens), texts, cache)
    metadata = dict(table.prompts.metadata)
    if name not in metadata:
        said = cached_embeddings(YesEncoder(folder, max_tokens=max_tokens), texts, cache)[:, 0]
        metadata[name] = tuple(f"{p:.6f}" for p in said)
    prompts = replace(table.prompts, states=states, metadata=metadata)
    answers = {tier: replace(one, prompts=prompts) for tier, one in table.answers.items()}
    return replace(table, prompts=prompts, answers=answers)
