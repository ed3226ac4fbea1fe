"""Compute named, versioned features of prompts and completions, and batch them with their embeddings.

A router stores `FEATURES_VERSION` with its weights: raise it when a definition here changes, so that old weights are
refused instead of being given other numbers.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.text_cache import cached_by_text
from router_models.types import Answers, Completion, FloatArray, PromptEmbedding, Prompts, Query
from router_models.types.conditions import turns_of
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary

FEATURES_VERSION = 1
SURFACE_NAMES = (
    "log_chars",
    "log_words",
    "log_lines",
    "mean_word_chars",
    "digit_share",
    "upper_share",
    "punctuation_share",
    "non_ascii_share",
    "number_count",
    "question_marks",
    "has_code",
    "has_math",
    "has_choices",
    "asks_why_or_how",
)


_CODE = re.compile(r"```|\bdef \w+\(|\bclass \w+|;\s*$|\breturn\b|=>|\{\s*\"", re.MULTILINE)
_MATH = re.compile(
    r"\\\w+\{|\$[^$]+\$|\b\d+\s*[-+*/^×÷=]\s*\d+|\b(?:integral|derivative|equation|polynomial|matrix)\b", re.I
)
_CHOICES = re.compile(r"^[^\S\n]*\(?[A-Da-d][.):]\s", re.MULTILINE)  # on one line: quadratic if over blank ones
_WHY = re.compile(r"\b(?:why|how|explain|prove|derive|compare|warum|wie|por qué|cómo)\b", re.I)
# What a text must hold for an expression to be worth running over it, which takes ten times as long.
_CODE_HINTS = ("`", "def ", "class ", ";", "return", "=>", "{")
_MATH_HINTS = ("\\", "$", "-", "+", "*", "/", "^", "=", "integral", "derivative", "equation", "polynomial", "matrix")
_WHY_HINTS = ("why", "how", "explain", "prove", "derive", "compare", "warum", "wie")
_ASCII = [chr(code) for code in range(128)]
_DIGITS = "".join(c for c in _ASCII if c.isdigit()).encode()
_UPPER = "".join(c for c in _ASCII if c.isupper()).encode()
_PUNCTUATION = "".join(c for c in _ASCII if not c.isalnum() and not c.isspace()).encode()


def surface_features(texts: Sequence[str]) -> FloatArray:
    """Compute counts and shares that are visible in a prompt's text, without a model.

    Parameters
    ----------
    texts : sequence of str
        n prompts.

    Returns
    -------
    array of float, (n, len(SURFACE_NAMES))
    """
    rows = cached_by_text("surface", texts, lambda new: [_surface(text) for text in new])
    return np.array(rows, dtype=np.float64).reshape(len(texts), len(SURFACE_NAMES))


def _surface(text: str) -> tuple[float, ...]:
    chars = max(len(text), 1)
    words = text.split()
    # ASCII is counted by deleting bytes: many times faster than testing every character. The others are tested.
    plain = text.encode("ascii", "ignore")
    other = [] if len(plain) == len(text) else [c for c in text if c > "\x7f"]
    # Letters that are equal but for their case to ASCII ones may not be by `lower`: such texts are always searched.
    lower = None if other else text.lower()
    return (
        math.log1p(len(text)),
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        sum(map(len, words)) / max(len(words), 1),
        (_count(plain, _DIGITS) + sum(c.isdigit() for c in other)) / chars,
        (_count(plain, _UPPER) + sum(c.isupper() for c in other)) / chars,
        (_count(plain, _PUNCTUATION) + sum(not c.isalnum() and not c.isspace() for c in other)) / chars,
        len(other) / chars,
        math.log1p(len(re.findall(r"\d+(?:[.,]\d+)*", text))),
        float(text.count("?")),
        float(any(hint in text for hint in _CODE_HINTS) and bool(_CODE.search(text))),
        float(_holds_any(lower, _MATH_HINTS) and bool(_MATH.search(text))),
        float(len(_CHOICES.findall(text)) >= 2),
        float(_holds_any(lower, _WHY_HINTS) and bool(_WHY.search(text))),
    )


def _holds_any(lower: str | None, hints: tuple[str, ...]) -> bool:
    """Whether a text holds any of these, in whichever case; None: a text of which that is not known."""
    return lower is None or any(hint in lower for hint in hints)


def _count(text: bytes, kind: bytes) -> int:
    return len(text) - len(text.translate(None, kind))


def prompts_of(queries: Sequence[Query], encoder: Encoder | None) -> Prompts:
    """Batch queries into columns, with embeddings where an encoder is given.

    Column `turns` is counted, whatever a query's metadata says.
    """
    texts = tuple(query.text for query in queries)
    names = sorted({name for query in queries for name in query.metadata})
    metadata = {name: tuple(str(query.metadata.get(name, "")) for query in queries) for name in names}
    metadata["turns"] = tuple(str(turns_of(query.messages)) for query in queries)
    asked = {name for query in queries for name in query.signals}
    signals = {name: np.array([query.signals.get(name, np.nan) for query in queries]) for name in sorted(asked)}
    return Prompts(texts, None if encoder is None else encoder.encode(texts), metadata, signals=signals)


def embedding_of(prompts: Prompts, encoder: Encoder) -> PromptEmbedding | None:
    """Return the embedding of a batch of one prompt, to be used again by `prompt_of`; None where it has none."""
    if prompts.embeddings is None:
        return None
    return PromptEmbedding(text_digest(prompts.texts[0]), encoder.digest, prompts.embeddings[0])


def embeddings_of(queries: Sequence[Query], encoder: Encoder) -> list[PromptEmbedding]:
    """Embed queries with one call of the encoder, each to be given to `prompt_of`."""
    rows = encoder.encode([query.text for query in queries])
    return [PromptEmbedding(text_digest(q.text), encoder.digest, row) for q, row in zip(queries, rows, strict=True)]


def embedded_with(
    queries: Sequence[Query], encoder: Encoder, made: Sequence[PromptEmbedding | None]
) -> list[PromptEmbedding]:
    """Return the embeddings of queries: those that were made of these texts by this encoder, and new ones of the rest.

    Parameters
    ----------
    queries : sequence of Query
        n queries.
    encoder : Encoder
        Embeds, with one call, those of which `made` holds nothing, or something of another text or encoder.
    made : sequence of PromptEmbedding or None
        What was made before, n.
    """
    found = [
        one if one is not None and _is_of(one, query, encoder) else None
        for query, one in zip(queries, made, strict=True)
    ]
    lacking = [query for query, one in zip(queries, found, strict=True) if one is None]
    new = iter(embeddings_of(lacking, encoder) if lacking else ())
    return [next(new) if one is None else one for one in found]


def _is_of(made: PromptEmbedding, query: Query, encoder: Encoder) -> bool:
    return made.text_digest == text_digest(query.text) and made.encoder == encoder.digest


def prompt_of(query: Query, encoder: Encoder, made: PromptEmbedding | None) -> Prompts:
    """Return the query as a batch of one, with its embedding: the one that was made before, or a new one."""
    [embedded] = embedded_with([query], encoder, [made])
    return replace(prompts_of([query], None), embeddings=embedded.vector[None])


def text_digest(text: str) -> bytes:
    """Return a hash of a text: what says of an embedding that it is this text's."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def answers_of(
    prompts: Prompts, completions: Sequence[Completion], signals: Mapping[str, FloatArray] | None = None
) -> Answers:
    """Batch completions into columns beside their prompts; their logprob summaries become signals."""
    summaries = [logprob_summary(completion.token_logprobs) for completion in completions]
    columns = {name: np.array([s[name] for s in summaries], dtype=np.float64) for name in LOGPROB_NAMES}
    return Answers(
        prompts,
        tuple(completion.text for completion in completions),
        tuple(completion.finish_reason for completion in completions),
        columns | dict(signals or {}),
    )
