"""Interpret the columns of a table of outcomes, LONG or WIDE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number

import numpy as np
import pandas as pd

from router_models.data.formats.token_columns import TOKEN_COLUMNS, tokens_of
from router_models.errors import DataError
from router_models.types import FloatArray, Tokens
from router_models.types.exchange import LOGPROB_NAMES

COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "latency_s")
LONG_COLUMNS = ("prompt_id", "prompt", "tier", "answer", "grade", *COUNTS, "finish_reason", *LOGPROB_NAMES)
METADATA_NAMES = frozenset(
    "question_id prompt_id id split contaminated difficulty language index year "
    "domain category family task qset user_tier history_length".split()
)
"""Columns that are never grades, whatever their type: domains may be numbered."""
_MEASURED = ("_outchars", "_prompt_tokens", "_completion_tokens", "_cached_tokens", "_latency_s")
_SUFFIXES = ("_answer", "_pred", *_MEASURED)


@dataclass(frozen=True, slots=True)
class Columns:
    """Hold a file's content with one entry per prompt: what `outcomes.OutcomeTable` is built from."""

    prompts: tuple[str, ...]
    metadata: Mapping[str, tuple[str, ...]]
    grades: Mapping[str, FloatArray]
    answers: Mapping[str, tuple[str, ...]]
    finish_reasons: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, Mapping[str, FloatArray]]
    signals: Mapping[str, Mapping[str, FloatArray]]
    tokens: Mapping[str, Tokens] = field(default_factory=dict)


def parse_columns(
    frame: pd.DataFrame,
    tiers: Sequence[str] | None = None,
    scale: tuple[float, float] | None = None,
    metadata: Sequence[str] = (),
) -> Columns:
    """Detect whether a table is LONG or WIDE, and interpret it.

    Parameters
    ----------
    frame : DataFrame
        What `readers.read_frame` returns.
    tiers : sequence of str, optional
        Keep only these tiers.
    scale : tuple of float, optional
        The lowest and highest grade, such as (1, 10); grades are mapped from there to [0, 1].
    metadata : sequence of str
        Columns that are metadata although they hold numbers.

    Returns
    -------
    Columns

    Raises
    ------
    DataError
        For an unknown tier, or naming the column and row of a value that cannot be used.
    """
    if scale is not None and not scale[0] < scale[1]:
        raise DataError(f"a scale runs from its lowest grade to its highest, found {scale[0]:g} to {scale[1]:g}")
    if "prompt" not in frame.columns:
        raise DataError(f"no column 'prompt'; found: {', '.join(map(str, frame.columns))}")
    frame = frame.reset_index(drop=True)
    empty = frame["prompt"].isna()
    if empty.any():
        raise DataError(
            f"column 'prompt' is empty in row {int(empty.to_numpy().argmax())}: every row needs its prompt"
        )
    if "tier" in frame.columns:
        return _long(frame, tiers, scale, METADATA_NAMES.union(metadata))
    return _wide(frame, tiers, scale, METADATA_NAMES.union(metadata))


def _long(
    frame: pd.DataFrame, tiers: Sequence[str] | None, scale: tuple[float, float] | None, metadata: frozenset[str]
) -> Columns:
    if "grade" not in frame.columns:
        raise DataError(
            "a table with a column 'tier' also needs 'grade'; found: " + ", ".join(map(str, frame.columns))
        )
    unnamed = frame["tier"].isna().to_numpy()
    if unnamed.any():
        raise DataError(f"column 'tier' is empty in row {int(unnamed.argmax())}")
    frame["tier"] = frame["tier"].astype(str)
    names = _selected(list(dict.fromkeys(frame["tier"])), tiers, list(dict.fromkeys(frame["tier"])))
    frame["grade"] = _grade(frame, "grade", scale)
    key = "prompt_id" if "prompt_id" in frame.columns else "prompt"
    if key == "prompt_id":
        texts = frame.groupby("prompt_id", sort=False)["prompt"].nunique()
        if (texts > 1).any():
            raise DataError(f"prompt_id {texts.idxmax()!r} stands for {int(texts.max())} different prompts")
    twice = frame.duplicated([key, "tier"])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise DataError(
            f"row {row}: a second outcome of tier {frame['tier'][row]!r} for {key} {str(frame[key][row])[:60]!r}; "
            "keep one row per prompt and tier"
        )
    first = frame.drop_duplicates(key)
    standard = {*LONG_COLUMNS, *TOKEN_COLUMNS, "id"}
    others = [c for c in frame.columns if c not in standard]
    flags = [c for c in others if _is_text(frame[c]) or c in metadata]
    numeric = [c for c in frame.columns if c in LOGPROB_NAMES or (c in others and c not in flags)]
    for name in (c for c in frame.columns if c in COUNTS or c in numeric):
        frame[name] = _floats(frame, name)  # before rows are divided by tier, so that messages name rows of the file
    per_tier = {t: frame[frame["tier"] == t].set_index(key).reindex(first[key].to_numpy()) for t in names}
    return Columns(
        prompts=tuple(first["prompt"].astype(str)),
        metadata={str(c): _strings(first[c]) for c in flags},
        grades={t: _floats(rows, "grade") for t, rows in per_tier.items()},
        answers={t: _strings(rows["answer"]) for t, rows in per_tier.items() if "answer" in rows},
        finish_reasons={t: _strings(rows["finish_reason"]) for t, rows in per_tier.items() if "finish_reason" in rows},
        counts={c: {t: _floats(rows, c) for t, rows in per_tier.items()} for c in COUNTS if c in frame.columns},
        signals={t: {str(c): _floats(rows, c) for c in numeric} for t, rows in per_tier.items()},
        tokens={t: tokens for t, rows in per_tier.items() if (tokens := tokens_of(rows)) is not None},
    )


def _wide(
    frame: pd.DataFrame, tiers: Sequence[str] | None, scale: tuple[float, float] | None, metadata: frozenset[str]
) -> Columns:
    names = [str(c) for c in frame.columns]
    frame.columns = pd.Index(names)
    for name in names:
        model = next((name.removesuffix(s) for s in _MEASURED if name.endswith(s)), name)
        if model not in names:
            raise DataError(f"column {name!r} is there, but no column {model!r} with the grades of that model")
    plain = [c for c in names if c != "prompt" and "|" not in c and c not in metadata]
    plain = [c for c in plain if not any(c.endswith(s) and c.removesuffix(s) in names for s in _SUFFIXES)]
    candidates = [c for c in plain if not _is_text(frame[c])]
    models = _selected(candidates, tiers, names)
    if not models:
        raise DataError(f"no numeric column of grades beside 'prompt'; found: {', '.join(names)}")
    grades = {t: _grade(frame, t, scale).to_numpy() for t in models}
    flags = [c for c in names if c in metadata or (c in plain and c not in models and _is_text(frame[c]))]

    def of(suffix: str) -> dict[str, FloatArray]:
        return {t: _floats(frame, t + suffix) for t in models if t + suffix in names}

    signals: dict[str, dict[str, FloatArray]] = {t: {} for t in models}
    for name in names:
        tier, bar, signal = name.partition("|")
        if bar and tier in signals:
            signals[tier][signal] = _floats(frame, name)
    for tier, column in of("_outchars").items():
        signals[tier]["outchars"] = column
    texts = {t: next((t + s for s in ("_answer", "_pred") if t + s in names), None) for t in models}
    return Columns(
        prompts=tuple(frame["prompt"].astype(str)),
        metadata={c: _strings(frame[c]) for c in flags},
        grades=grades,
        answers={t: _strings(frame[c]) for t, c in texts.items() if c is not None},
        finish_reasons={},
        counts={c: columns for c in COUNTS if (columns := of(f"_{c}"))},
        signals=signals,
    )


def _selected(found: list[str], tiers: Sequence[str] | None, present: list[str]) -> list[str]:
    if tiers is None:
        return found
    unknown = [t for t in tiers if t not in present]
    if unknown:
        raise DataError(f"unknown tier(s) {', '.join(map(repr, unknown))}; this file has: {', '.join(found)}")
    return list(tiers)


def _is_text(column: pd.Series) -> bool:
    """Return whether a column holds something other than numbers and booleans; columns with gaps may hold objects."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False
    there = column.dropna()
    return there.empty or not all(isinstance(value, Number | np.bool_) for value in there)


def _strings(column: pd.Series) -> tuple[str, ...]:
    return tuple("" if pd.isna(value) else str(value) for value in column)


def _floats(frame: pd.DataFrame, name: str) -> FloatArray:
    """Return a numeric column as float64, NaN = missing; DataError where a value is infinite or not a number."""
    try:
        values = pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise DataError(f"column {name!r} must be numeric ({error})") from error
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise DataError(f"column {name!r} is infinite in row {row}: clip it, or leave it empty where not measured")
    return values


def _grade(frame: pd.DataFrame, name: str, scale: tuple[float, float] | None) -> pd.Series:
    truths = frame[name].map(lambda value: value.strip().lower() if isinstance(value, str) else value)
    values = _floats(pd.DataFrame({name: truths.replace({"true": 1.0, "false": 0.0})}), name)
    if np.isnan(values).all():
        raise DataError(f"column {name!r} holds no grade at all")
    if scale is not None:
        values = (values - scale[0]) / (scale[1] - scale[0])
    off = (values < 0) | (values > 1)
    if off.any():
        row = int(off.argmax())
        raise DataError(
            f"column {name!r}, row {row}: grade {values[row]:g} is not in [0, 1]; give `scale` (1 to 10, say) if this "
            "is a score, or name the tiers if this column is not a grade"
        )
    return pd.Series(values)
