"""Convert outcomes to LONG tables and back, and write them to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from router_models.data.formats.cells import to_label_sources
from router_models.data.formats.columns import LABEL_SOURCE, LONG_COLUMNS
from router_models.data.formats.token_columns import TOKEN_COLUMNS, token_cells, tokens_of
from router_models.errors import DataError
from router_models.types import Outcome, Tokens, Usage
from router_models.types.exchange import ASKED_NAMES, FORMAT_NAMES, LOGPROB_NAMES, verifier_of


def outcomes_to_frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Convert outcomes to a LONG table: `LONG_COLUMNS`, what else is known (formats, asked signals, …), metadata."""
    known = {*LONG_COLUMNS, *FORMAT_NAMES, *ASKED_NAMES, *TOKEN_COLUMNS, LABEL_SOURCE}
    extra = sorted({name for o in outcomes for name in o.metadata} - known)
    tokens = TOKEN_COLUMNS if any(o.token_texts for o in outcomes) else ()
    sources = (LABEL_SOURCE,) if any(o.label_source for o in outcomes) else ()
    models = sorted({name for o in outcomes for name in o.logprobs if verifier_of(name) is not None})
    formats = [n for n in (*FORMAT_NAMES, *ASKED_NAMES) if any(n in o.logprobs for o in outcomes)] + models
    rows = [
        {
            "prompt_id": o.prompt_id,
            "prompt": o.prompt,
            "tier": o.tier,
            "answer": o.answer,
            "grade": o.grade,
            "prompt_tokens": o.usage.prompt_tokens,
            "completion_tokens": o.usage.completion_tokens,
            "cached_tokens": o.usage.cached_tokens,
            "latency_s": o.latency_s,
            "finish_reason": o.finish_reason,
        }
        | {name: o.logprobs.get(name, np.nan) for name in (*LOGPROB_NAMES, *formats)}
        | dict.fromkeys(sources, o.label_source)
        | {name: token_cells(o, name) for name in tokens}
        | {name: o.metadata.get(name, "") for name in extra}
        for o in outcomes
    ]
    return pd.DataFrame(rows, columns=[*LONG_COLUMNS, *formats, *sources, *tokens, *extra])


def frame_to_outcomes(frame: pd.DataFrame) -> list[Outcome]:
    """Convert a LONG table back to outcomes, one per row; DataError names columns that are missing."""
    missing = [c for c in LONG_COLUMNS if c not in frame.columns]
    if missing:
        raise DataError(f"not a table of outcomes: column(s) {', '.join(missing)} missing")
    models = [str(c) for c in frame.columns if verifier_of(str(c)) is not None]
    known = (*LONG_COLUMNS, *FORMAT_NAMES, *ASKED_NAMES, *models, *TOKEN_COLUMNS, LABEL_SOURCE)
    extra = [str(c) for c in frame.columns if c not in known]
    measured = [name for name in (*LOGPROB_NAMES, *FORMAT_NAMES, *ASKED_NAMES, *models) if name in frame.columns]
    sources = to_label_sources(frame[LABEL_SOURCE]) if LABEL_SOURCE in frame.columns else ("",) * len(frame)
    tokens = tokens_of(frame) or Tokens(((),) * len(frame), ((),) * len(frame))
    return [
        Outcome(
            prompt_id=str(row["prompt_id"]),
            prompt=str(row["prompt"]),
            tier=str(row["tier"]),
            answer=str(row["answer"]),
            grade=float(row["grade"]),
            usage=Usage(int(row["prompt_tokens"]), int(row["completion_tokens"]), int(row["cached_tokens"])),
            latency_s=float(row["latency_s"]),
            finish_reason=str(row["finish_reason"]),
            logprobs={name: float(row[name]) for name in measured if not pd.isna(row[name])},
            metadata={name: str(row[name]) for name in extra if not pd.isna(row[name]) and str(row[name])},
            token_texts=texts,
            token_logprobs=logprobs,
            label_source=source,
        )
        for row, texts, logprobs, source in zip(
            frame.to_dict("records"), tokens.texts, tokens.logprobs, sources, strict=True
        )
    ]


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write outcomes to a LONG parquet file (zstd); the file appears complete or not at all.

    Parameters
    ----------
    path : Path
        The file, which is replaced; its folder is made.
    outcomes : sequence of Outcome
        One a row.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    outcomes_to_frame(outcomes).to_parquet(partial, compression="zstd", index=False)
    os.replace(partial, path)
