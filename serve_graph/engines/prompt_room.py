"""How many tokens a prompt is taken for before any engine has counted, and how long a prompt a tier has room for."""

from __future__ import annotations

from serve_graph.config.graph import GraphConfig

BYTES_PER_TOKEN = 2.5  # English has about 4, code 3, Chinese and Arabic 2 to 3: short, so that a prompt fits after all
TOKENS_PER_MESSAGE = 8


def longest_prompt_bytes(config: GraphConfig) -> int | None:
    """The longest prompt that every tier below the last has room for; None: no limit of any is known.

    One message of so many bytes and an answer of the tier's own length fit, as `gateway.context_length` estimates it.
    """
    known = ((tier.context_limit, tier.default_max_tokens) for tier in config.tiers[:-1])
    rooms = [limit - answer - TOKENS_PER_MESSAGE for limit, answer in known if limit is not None]
    return int(max(min(rooms), 0) * BYTES_PER_TOKEN) if rooms else None
