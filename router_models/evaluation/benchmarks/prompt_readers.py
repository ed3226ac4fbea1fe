"""Compute what a local language model makes of prompts: P(yes) for the family `p-yes`, hidden states for `probe`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from router_models.data.embeddings.cache import cached_embeddings
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers.language_model.p_yes import PYesRouter, YesEncoder
from router_models.estimators.routers.language_model.probe import HiddenStateEncoder

MAX_TOKENS = 256


def read_by(table: OutcomeTable, folder: Path, cache: Path | None, max_tokens: int = MAX_TOKENS) -> OutcomeTable:
    """Return the table with `prompts.states` and the column `p_yes`, computed by a local model.

    A column `p_yes` that is there already is kept: it is the tier's own probability.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    folder : Path
        A transformers model folder.
    cache : Path, optional
        A folder that stores what was computed; None = nothing is stored.
    max_tokens : int
        Prompts are cut to this length.

    Returns
    -------
    OutcomeTable

    Raises
    ------
    ArtifactError
        Where the folder holds no model.
    """
    texts, name = table.prompts.texts, PYesRouter().column
    states = cached_embeddings(HiddenStateEncoder(folder, max_tokens=max_tokens), texts, cache)
    metadata = dict(table.prompts.metadata)
    if name not in metadata:
        probabilities = cached_embeddings(YesEncoder(folder, max_tokens=max_tokens), texts, cache)[:, 0]
        metadata[name] = tuple(f"{p:.6f}" for p in probabilities)
    prompts = replace(table.prompts, states=states, metadata=metadata)
    answers = {tier: replace(one, prompts=prompts) for tier, one in table.answers.items()}
    return replace(table, prompts=prompts, answers=answers)
