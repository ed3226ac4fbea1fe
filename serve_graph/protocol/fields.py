"""What becomes of every request field, by endpoint and by the kind of engine that answers: one row for each.

`engine_body` goes by these tables, the reference page shows them, and a test sends every field to every kind of
engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

EngineKind = Literal["openai", "vllm", "echo"]
ENGINE_KINDS: tuple[EngineKind, ...] = ("openai", "vllm", "echo")


class Handling(StrEnum):
    """What becomes of a field on its way to one kind of engine."""

    FORWARDED = "forwarded"  # as it was sent
    TRANSLATED = "translated"  # under another name or in another form, see the note
    CONSUMED = "consumed"  # used or noted by this endpoint; the engine does not get it
    REFUSED = "refused"  # 400, unless it is null or what it would be anyway


@dataclass(frozen=True, slots=True)
class RequestField:
    """One row: what becomes of a field with a hosted API, with vLLM and with the echo engine."""

    name: str
    handling: Mapping[EngineKind, Handling]
    note: str


_CODES = {kind.value[0].upper(): kind for kind in Handling}


def _table(text: str) -> Mapping[str, RequestField]:
    """Read rows of `name CODES note`; the codes are the initials for each of ENGINE_KINDS."""
    rows = {}
    for line in text.strip().splitlines():
        name, codes, *note = line.split(maxsplit=2)
        handling = dict(zip(ENGINE_KINDS, (_CODES[code] for code in codes), strict=True))
        rows[name] = RequestField(name, MappingProxyType(handling), note[0] if note else "")
    return MappingProxyType(rows)


CHAT_FIELDS = _table("""
model                  TTT the tier's own model
messages               FFF an API gets nulls in messages as they were sent
stream                 TTT the endpoint decides for every tier
stream_options         TTT usage is always asked for; `include_obfuscation` reaches an API
max_tokens             FFF
max_completion_tokens  TTT `max_tokens`; it wins where both are given
temperature            FFF
top_p                  FFF
n                      FFF
stop                   FFF
seed                   FFF
presence_penalty       FFF
frequency_penalty      FFF
logit_bias             FFF
logprobs               TTT always on; shown where it was asked for
top_logprobs           FFF
response_format        FFF
tools                  FFF vLLM takes those of type `function`
tool_choice            FFF
parallel_tool_calls    FFF
functions              TTT `tools`; the reply has `function_call` again
function_call          TTT `tool_choice`
reasoning_effort       FFF
verbosity              FFF
modalities             FCF vLLM: `["text"]`, anything else is refused
audio                  FRF
prediction             FCF a hint for speed
web_search_options     FRF
moderation             FRF
user                   FCF also the session, where none is given
metadata               FCF without `serve_graph.*`; also labels for routing
store                  FCF nothing is stored here
service_tier           FCF
safety_identifier      FCF
prompt_cache_key       FCF also the session, where none is given
prompt_cache_retention FCF
prompt_cache_options   FCF
serve_graph            CCC options of this endpoint
top_k                  FFF
min_p                  FFF
repetition_penalty     FFF
min_tokens             FFF
ignore_eos             FFF
skip_special_tokens    FFF
chat_template_kwargs   FFF
""")
OWN_NAMES = frozenset({"anthropic_cache_control", "tool_results_in_turn"})
"""Parameters that this endpoint itself sets on the way to an engine: no caller may."""
COMPLETION_FIELDS = MappingProxyType(
    {
        **_table("""
model                  TTT the tier's own model
prompt                 TTT one user message
suffix                 RRR
echo                   RRR
best_of                RRR 1 is what there is
logprobs               RRR
"""),
        **{
            name: row
            for name, row in CHAT_FIELDS.items()
            if name
            in {
                "stream", "stream_options", "max_tokens", "temperature", "top_p", "n", "stop", "seed",
                "presence_penalty", "frequency_penalty", "logit_bias", "user", "metadata", "store", "service_tier",
                "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
                "serve_graph", "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos",
                "skip_special_tokens",
            }
        },
    }
)  # fmt: skip
RESPONSES_FIELDS = _table("""
model                  TTT the tier's own model
input                  TTT `messages`
instructions           TTT a system message
stream                 TTT the endpoint decides for every tier
stream_options         TTT as in chat
max_output_tokens      TTT `max_tokens`
max_tool_calls         CCC it limits OpenAI's own tools; none is called
temperature            FFF
top_p                  FFF
tools                  TTT functions and custom tools; OpenAI's own (`web_search`, …) are refused by name
tool_choice            TTT
parallel_tool_calls    FFF
text                   TTT `response_format`, `verbosity`
reasoning              TTT `reasoning_effort`; no summaries are made
metadata               FCF without `serve_graph.*`; also labels for routing
user                   FCF also the session, where none is given
store                  FCF nothing is stored here
service_tier           FCF
safety_identifier      FCF
prompt_cache_key       FCF also the session, where none is given
prompt_cache_retention FCF
prompt_cache_options   FCF
include                CCC
truncation             CCC the engine has the last word
client_metadata        CCC
top_logprobs           RRR 0 is what there is
background             RRR
background_options     RRR
previous_response_id   RRR nothing is kept between requests
conversation           RRR
context_management     RRR
prompt                 RRR
image                  RRR
access_programs        RRR
moderation             FRF
serve_graph            CCC options of this endpoint
""")
MESSAGES_FIELDS = _table("""
model                  TTT the tier's own model
messages               TTT
system                 TTT a system message
max_tokens             FFF
stream                 TTT the endpoint decides for every tier
stop_sequences         TTT `stop`
temperature            FFF
top_p                  FFF
top_k                  FFF
metadata               TCT `user`; also the session, where none is given
tools                  TTT those with an `input_schema`; Anthropic's own (`web_search_…`, `bash_…`) are refused by name
tool_choice            TTT also `parallel_tool_calls`
thinking               TTT `reasoning_effort`
output_config          TTT `reasoning_effort`, `response_format`
output_format          TTT `response_format`
cache_control          CCC passed on by tiers with `api: anthropic`
context_management     CCC edits that clear; others are refused
diagnostics            CCC
service_tier           CCC
speed                  CCC `standard` is what there is
mcp_servers            RRR
container              RRR
serve_graph            CCC options of this endpoint
""")
EMBEDDINGS_FIELDS = _table("""
model                  TTT the tier's own model
input                  FFF
encoding_format        FFF an API is asked for `float` where none is given
dimensions             FFF
user                   FCF
""")
TABLES: Mapping[str, Mapping[str, RequestField]] = MappingProxyType(
    {
        "/v1/chat/completions": CHAT_FIELDS,
        "/v1/completions": COMPLETION_FIELDS,
        "/v1/responses": RESPONSES_FIELDS,
        "/v1/messages": MESSAGES_FIELDS,
        "/v1/embeddings": EMBEDDINGS_FIELDS,
    }
)
"""The tables by path."""


def _named(handling: Handling) -> Mapping[EngineKind, frozenset[str]]:
    rows = [*CHAT_FIELDS.values(), *EMBEDDINGS_FIELDS.values()]
    return MappingProxyType(
        {kind: frozenset(row.name for row in rows if row.handling[kind] is handling) for kind in ENGINE_KINDS}
    )


WITHHELD = _named(Handling.CONSUMED)
"""The fields that an engine does not get."""
UNSUPPORTED = _named(Handling.REFUSED)
"""The fields that an engine cannot honour: a request that sets one is refused by its tier."""
