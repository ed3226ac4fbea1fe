"""Interpret tables of outcomes in either of two shapes, and write the one that `serve-graph collect` uses.

Files are parquet, CSV or JSON lines, compressed (`.gz`) or not; `text_files`, `json_lines`, `parquet_files` and
`readers` read them, `cells` converts what their columns hold.

LONG, one row per prompt and tier (what `serve-graph collect` writes): `prompt`, `tier`, `grade`, and where known
`prompt_id`, `answer`, `label_source` (who graded: `types.label_sources`), `prompt_tokens`, `completion_tokens`,
`cached_tokens`, `latency_s`, `finish_reason`, the logprob summary (`exchange.LOGPROB_NAMES`), every token's text and
logprob (`TOKEN_COLUMNS`: lists, equally long, in parquet and JSON lines only); other numeric columns become signals,
other text columns metadata.

WIDE, one row per prompt: `prompt`, one column of grades per model, and where known `<model>_answer`, `<model>_pred`,
`<model>_outchars`, `<model>_prompt_tokens`, `<model>_completion_tokens`, `<model>_latency_s`, `<model>|<signal>`,
`<model>_label_source` or one `label_source` for all; text and flag columns become metadata.

Nothing is repaired silently: a value that cannot be used raises DataError naming its column and its row or line.

A name below is loaded from its module when it is first asked for: the modules that read lines of text need no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router_models.data.formats.columns import LABEL_SOURCE, LONG_COLUMNS, METADATA_NAMES, Columns, parse_columns
    from router_models.data.formats.frames import frame_to_outcomes, outcomes_to_frame, write_outcomes
    from router_models.data.formats.readers import read_frame
    from router_models.data.formats.token_columns import TOKEN_COLUMNS, token_cells, tokens_of

__all__ = [
    "LABEL_SOURCE",
    "LONG_COLUMNS",
    "METADATA_NAMES",
    "TOKEN_COLUMNS",
    "Columns",
    "frame_to_outcomes",
    "outcomes_to_frame",
    "parse_columns",
    "read_frame",
    "token_cells",
    "tokens_of",
    "write_outcomes",
]

_MODULES = {
    **dict.fromkeys(("LABEL_SOURCE", "LONG_COLUMNS", "METADATA_NAMES", "Columns", "parse_columns"), "columns"),
    **dict.fromkeys(("frame_to_outcomes", "outcomes_to_frame", "write_outcomes"), "frames"),
    "read_frame": "readers",
    **dict.fromkeys(("TOKEN_COLUMNS", "token_cells", "tokens_of"), "token_columns"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
