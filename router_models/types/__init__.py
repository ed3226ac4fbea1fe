"""The nouns of the project, as frozen data.

Every other module of `router_models` takes and returns these; `serve_graph` translates requests and replies into them
and back. Nothing here computes more than a view of its own fields.
"""

from __future__ import annotations

from router_models.types.arrays import BoolArray, FloatArray, IntArray, Progress
from router_models.types.batches import Answers, Outcome, Prompts, Tokens
from router_models.types.decisions import (
    DECIDED_BY_NO_VERSION,
    Action,
    Decision,
    IntentMatch,
    OperatingPoint,
    PrefixPoint,
    PromptEmbedding,
    Verdict,
)
from router_models.types.exchange import PREFIX_FINISH, Attempt, Completion, Message, Query, Usage
from router_models.types.records import Call, DecisionRecord

__all__ = [
    "DECIDED_BY_NO_VERSION",
    "PREFIX_FINISH",
    "Action",
    "Answers",
    "Attempt",
    "BoolArray",
    "Call",
    "Completion",
    "Decision",
    "DecisionRecord",
    "FloatArray",
    "IntArray",
    "IntentMatch",
    "Message",
    "OperatingPoint",
    "Outcome",
    "PrefixPoint",
    "Progress",
    "PromptEmbedding",
    "Prompts",
    "Query",
    "Tokens",
    "Usage",
    "Verdict",
]
