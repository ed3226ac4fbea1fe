"""Interpret the columns of a table of outcomes, LONG or WIDE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC

import pandas as pd

from router_models.data.formats.cells import (
    converted,
    is_text,
    place,
    to_grades,
    to_label_sources,
    to_numbers,
    to_prompts,
    to_texts,
)
from router_models.data.formats.condition_columns import asked_as, with_conditions
from router_models.data.formats.token_columns import TOKEN_COLUMNS, tokens_of
from router_models.errors import DataError
from router_models.types import FloatArray, Prompts, Tokens
from router_models.types.condition_cells import CONDITION_COLUMNS
from router_models.types.drawn import (
    COLLECTED_AT,
    DRAW_ID,
    DRAWN,
    DRAWS_TRIED,
    SAMPLE_WEIGHT,
    draws_tried,
    moment_of,
    sample_weights,
)
from router_models.types.exchange import LOGPROB_NAMES

COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "latency_s")
LONG_COLUMNS = ("prompt_id", "prompt", "tier", "answer", "grade", *COUNTS, "finish_reason", *LOGPROB_NAMES)
LABEL_SOURCE = "label_source"
"""Who graded: of every row of a LONG table; in a WIDE one for all tiers, or `<tier>_label_source`."""
METADATA_NAMES = frozenset(
    "question_id prompt_id id split contaminated difficulty language index year "
    "domain category family task qset user_tier history_length".split()
).union(CONDITION_COLUMNS, (DRAWN, DRAWS_TRIED, DRAW_ID, SAMPLE_WEIGHT))
"""Columns that are never grades, whatever their type: domains may be numbered."""
_MEASURED = ("_outchars", "_prompt_tokens", "_completion_tokens", "_cached_tokens", "_latency_s")
_POSITION = "|position"
_ASKED = "|asked"
_SUFFIXES = ("_answer", "_pred", f"_{LABEL_SOURCE}", *_MEASURED)


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
    label_sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    collected_at: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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
    if frame.index.name != "line":  # `readers`: lines of a text file; else rows are counted from 0
        frame = frame.reset_index(drop=True)
    prompts = to_prompts(frame["prompt"])
    frame = with_conditions(frame.assign(prompt=[text for text, _ in prompts]), [chat for _, chat in prompts])
    read = _long if "tier" in frame.columns else _wide
    columns = read(frame, tiers, scale, METADATA_NAMES.union(metadata))
    try:
        sample_weights(Prompts(columns.prompts, None, columns.metadata))
    except ValueError as error:
        raise DataError(f"column {SAMPLE_WEIGHT!r} holds what is no weight of 0 or more: {error}") from error
    try:
        draws_tried(Prompts(columns.prompts, None, columns.metadata))
    except ValueError as error:
        raise DataError(f"column {DRAWS_TRIED!r} holds what is no number of 1 or more: {error}") from error
    return columns


def _long(
    frame: pd.DataFrame, tiers: Sequence[str] | None, scale: tuple[float, float] | None, metadata: frozenset[str]
) -> Columns:
    if "grade" not in frame.columns:
        raise DataError(
            "a table with a column 'tier' also needs 'grade'; found: " + ", ".join(map(str, frame.columns))
        )
    tier_names = to_texts(frame["tier"])
    if "" in tier_names:
        raise DataError(f"column 'tier' is empty in {place(frame, tier_names.index(''))}")
    frame["tier"] = list(tier_names)
    names = _selected(list(dict.fromkeys(frame["tier"])), tiers, list(dict.fromkeys(frame["tier"])))
    frame["grade"] = to_grades(frame["grade"], scale)
    key = "prompt_id" if "prompt_id" in frame.columns else "prompt"
    if key == "prompt_id":
        frame["prompt_id"] = list(to_texts(frame["prompt_id"]))
        spellings = frame.groupby("prompt_id", sort=False)["prompt"].nunique()
        if (spellings > 1).any():
            raise DataError(
                f"prompt_id {spellings.idxmax()!r} stands for {int(spellings.max())} different prompts: give each "
                "prompt an id of its own, or drop the column"
            )
    frame[_ASKED] = asked_as(frame, key)
    twice = frame.duplicated([_ASKED, "tier"])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise DataError(
            f"{place(frame, row)}: a second outcome of tier {frame['tier'].iloc[row]!r} for {key} "
            f"{str(frame[key].iloc[row])[:60]!r}; keep one row per prompt and tier"
        )
    first = frame.drop_duplicates(_ASKED)
    standard = {*LONG_COLUMNS, *TOKEN_COLUMNS, LABEL_SOURCE, COLLECTED_AT, "id", _ASKED}
    others = [c for c in frame.columns if c not in standard]
    flags = [c for c in others if is_text(frame[c]) or c in metadata]
    numeric = [c for c in frame.columns if c in LOGPROB_NAMES or (c in others and c not in flags)]
    for name in (c for c in frame.columns if c in COUNTS or c in numeric):
        frame[name] = _measured(frame[name])  # before rows are divided by tier, so that messages name rows of the file
    if LABEL_SOURCE in frame.columns:
        frame[LABEL_SOURCE] = list(to_label_sources(frame[LABEL_SOURCE]))
    if COLLECTED_AT in frame.columns:
        frame[COLLECTED_AT] = list(_moments(frame[COLLECTED_AT]))
    tokens = tokens_of(frame)
    frame[_POSITION] = range(len(frame))
    per_tier = {t: frame[frame["tier"] == t].set_index(_ASKED).reindex(first[_ASKED].to_numpy()) for t in names}
    return Columns(
        prompts=tuple(first["prompt"]),
        metadata={str(c): to_texts(first[c]) for c in flags},
        grades={t: to_numbers(rows["grade"]) for t, rows in per_tier.items()},
        answers={t: to_texts(rows["answer"]) for t, rows in per_tier.items() if "answer" in rows},
        finish_reasons={t: to_texts(rows["finish_reason"]) for t, rows in per_tier.items() if "finish_reason" in rows},
        counts={c: {t: to_numbers(rows[c]) for t, rows in per_tier.items()} for c in COUNTS if c in frame.columns},
        signals={t: {str(c): to_numbers(rows[c]) for c in numeric} for t, rows in per_tier.items()},
        tokens={} if tokens is None else _tokens_by_tier(tokens, {t: rows[_POSITION] for t, rows in per_tier.items()}),
        label_sources={t: to_texts(rows[LABEL_SOURCE]) for t, rows in per_tier.items() if LABEL_SOURCE in rows},
        collected_at={t: to_texts(rows[COLLECTED_AT]) for t, rows in per_tier.items() if COLLECTED_AT in rows},
    )


def _tokens_by_tier(tokens: Tokens, positions: Mapping[str, pd.Series]) -> dict[str, Tokens]:
    """Divide the tokens of a LONG table's rows by tier; a tier without any is left out."""
    found = {}
    for tier, rows in positions.items():
        at = [None if pd.isna(position) else int(position) for position in rows]
        texts_of = tuple(() if i is None else tokens.texts[i] for i in at)
        if any(texts_of):
            found[tier] = Tokens(texts_of, tuple(() if i is None else tokens.logprobs[i] for i in at))
    return found


def _wide(
    frame: pd.DataFrame, tiers: Sequence[str] | None, scale: tuple[float, float] | None, metadata: frozenset[str]
) -> Columns:
    names = [str(c) for c in frame.columns]
    frame.columns = pd.Index(names)
    for name in names:
        model = next((name.removesuffix(s) for s in (*_MEASURED, f"_{LABEL_SOURCE}") if name.endswith(s)), name)
        if model not in names:
            raise DataError(f"column {name!r} is there, but no column {model!r} with the grades of that model")
    plain = [
        c for c in names if c not in ("prompt", LABEL_SOURCE, COLLECTED_AT) and "|" not in c and c not in metadata
    ]
    plain = [c for c in plain if not any(c.endswith(s) and c.removesuffix(s) in names for s in _SUFFIXES)]
    candidates = [c for c in plain if not is_text(frame[c])]
    models = _selected(candidates, tiers, names)
    if not models:
        raise DataError(f"no numeric column of grades beside 'prompt'; found: {', '.join(names)}")
    grades = {t: to_grades(frame[t], scale) for t in models}
    flags = [
        c
        for c in names
        if (c in metadata and c != LABEL_SOURCE) or (c in plain and c not in models and is_text(frame[c]))
    ]

    def of(suffix: str) -> dict[str, FloatArray]:
        return {t: _measured(frame[t + suffix]) for t in models if t + suffix in names}

    signals: dict[str, dict[str, FloatArray]] = {t: {} for t in models}
    for name in names:
        tier, bar, signal = name.partition("|")
        if bar and tier in signals:
            signals[tier][signal] = _measured(frame[name])
    for tier, column in of("_outchars").items():
        signals[tier]["outchars"] = column
    answers = {t: next((t + s for s in ("_answer", "_pred") if t + s in names), None) for t in models}
    return Columns(
        prompts=tuple(frame["prompt"]),
        metadata={c: to_texts(frame[c]) for c in flags},
        grades=grades,
        answers={t: to_texts(frame[c]) for t, c in answers.items() if c is not None},
        finish_reasons={},
        counts={c: columns for c in COUNTS if (columns := of(f"_{c}"))},
        signals=signals,
        label_sources=_wide_sources(frame, models),
        collected_at=dict.fromkeys(models, _moments(frame[COLLECTED_AT])) if COLLECTED_AT in names else {},
    )


def _moments(column: pd.Series) -> tuple[str, ...]:
    """Return when rows were collected, as one spelling; DataError names the row of what is no time."""
    return converted(column, lambda cell: "" if (at := moment_of(cell)) is None else at.astimezone(UTC).isoformat())


def _wide_sources(frame: pd.DataFrame, models: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each tier's label sources: its own column's, else those of the column for all; both may not differ."""
    common = to_label_sources(frame[LABEL_SOURCE]) if LABEL_SOURCE in frame.columns else None
    found = {}
    for tier in models:
        name = f"{tier}_{LABEL_SOURCE}"
        own = to_label_sources(frame[name]) if name in frame.columns else common
        if own is None:
            continue
        for row, (mine, other) in enumerate(zip(own, common or own, strict=True)):
            if mine and other and mine != other:
                raise DataError(
                    f"{place(frame, row)}: column {name!r} says {mine!r}, column {LABEL_SOURCE!r} {other!r}: keep one"
                )
        found[tier] = tuple(mine or other for mine, other in zip(own, common or own, strict=True))
    return found


def _selected(found: list[str], tiers: Sequence[str] | None, present: list[str]) -> list[str]:
    if tiers is None:
        return found
    unknown = [t for t in tiers if t not in present]
    if unknown:
        raise DataError(f"unknown tier(s) {', '.join(map(repr, unknown))}; this file has: {', '.join(found)}")
    return list(tiers)


def _measured(column: pd.Series) -> FloatArray:
    """Return a column of counts, seconds or signals; only signals may be negative."""
    name = str(column.name)
    return to_numbers(column, least=0.0 if name in COUNTS or name.endswith(_MEASURED) else None)
