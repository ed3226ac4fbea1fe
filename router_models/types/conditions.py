"""Under which conditions a prompt is asked: what beside its text decides how good the answers are.

Rows of outcomes carry these as columns, a certificate says which of them it was proved on, and a request is compared
with that before anything is promised of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router_models.types.condition_cells import cell_digest, cell_format, cell_is_yes, cell_json, cell_of, cell_sha256
from router_models.types.declared import format_digest, tools_digest
from router_models.types.exchange import Message, Query
from router_models.types.unread import unread_of

NO_DECODING = frozenset(
    """messages model stream stream_options n seed max_tokens max_completion_tokens logprobs top_logprobs user metadata
    store service_tier prompt_cache_key prompt_cache_retention prompt_cache_options safety_identifier serve_graph tools
    functions response_format cache_salt priority request_id
    anthropic_cache_control tool_results_in_turn""".split()
)
"""Parameters that decide nothing about one answer's text, or are conditions of their own. All others count."""
OWN_CONDITIONS = frozenset("messages n max_tokens max_completion_tokens tools functions response_format".split())
"""Parameters that are conditions of their own, and have no place among sampling settings."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "chat_template_kwargs": ({},),
    "modalities": (["text"],),
    "tool_choice": ("auto",),
    "function_call": ("auto",),
    "parallel_tool_calls": (True,),
}
"""Values that change nothing, unless a tier's own default is another one."""
OF_REQUESTS = frozenset({"tool_choice", "function_call", "parallel_tool_calls", "modalities"})
"""Settings that no tier has a default of."""
FREE_ORDER = frozenset({"logit_bias", "chat_template_kwargs", "tool_choice", "function_call"})
"""Settings whose members may stand in any order."""
READ_WHOLE = frozenset({"role", "content"})
"""What a message has of which routers read all, where its content is a text."""
SHAPES_SAMPLING = ("top_p", "top_k", "min_p")
"""What has no effect at temperature 0."""
EXACT = 2**53
"""The largest whole numbers that are the same as floats."""
NOBODY_ASKS = Message("user", "")
"""What a system prompt follows that is all there is: another condition than one that a question follows."""
SYSTEM_ROLES = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Conditions:
    """Hold what a prompt was asked under; the defaults are a single user turn and nothing else.

    Parameters
    ----------
    decoding : str
        The sampling settings of the request itself, as canonical JSON; empty: it has none.
    max_tokens : int, optional
        The longest answer that it permits; None: the tier's default.
    system_prompt : str
        sha256 of the system prompt, in hex; empty: there is none.
    turns : int
        Turns of the user; one more where the assistant spoke first.
    tools : bool
        Whether it declares tools.
    response_format : str
        `json_object`, `json_schema` or another type of format; empty: text.
    tool_loop : bool
        Whether the conversation holds calls of tools, or their results.
    prefilled : bool
        Whether it ends in the beginning of the assistant's answer.
    choices : int
        How many answers are wanted (`n`).
    unread : str
        What of its messages no router reads: reasoning, refusals, names of speakers, fields of one provider's own.
        Rows that have it are no evidence.
    declared : str
        sha256 of the tools that it declares, in hex; empty: none, or a row that does not say which.
    schema : str
        sha256 of its format's schema, in hex; empty: none, or a row that does not say which.
    """

    decoding: str = ""
    max_tokens: int | None = None
    system_prompt: str = ""
    turns: int = 1
    tools: bool = False
    response_format: str = ""
    tool_loop: bool = False
    prefilled: bool = False
    choices: int = 1
    unread: str = ""
    declared: str = ""
    schema: str = ""

    def columns(self) -> dict[str, str]:
        """Return the conditions as a row's columns, all text; `from_columns` reads them back."""
        return {
            "decoding": self.decoding,
            "max_tokens": "" if self.max_tokens is None else str(self.max_tokens),
            "system_prompt": self.system_prompt,
            "turns": str(self.turns),
            "tools": cell_of(self.tools),
            "response_format": self.response_format,
            "tool_loop": cell_of(self.tool_loop),
            "prefilled": cell_of(self.prefilled),
            "unread": self.unread,
            "declared_tools": self.declared,
            "format_schema": self.schema,
        }

    @classmethod
    def from_columns(cls, row: Mapping[str, str]) -> Conditions:
        """Read a row's columns, of which any may be absent or empty; ValueError names one that cannot be read.

        A system prompt may be there as its text instead of its hash, and tools and formats as the JSON of a request:
        then it says which tools, and which schema.
        """

        def number(name: str) -> int | None:
            text = row.get(name, "").strip()
            if not text:
                return None
            value = float(text) if text.replace(".", "", 1).isdigit() else -1.0
            if value < 1 or value != int(value):
                raise ValueError(f"{name} must be a whole number from 1, found {text!r}")
            return int(value)

        decoding = row.get("decoding", "").strip()
        asked = cell_json(decoding) if decoding else {}
        if not isinstance(asked, dict):
            raise ValueError(f'decoding must be a JSON object such as {{"temperature":0.7}}, found {decoding[:60]!r}')
        if stray := sorted(OWN_CONDITIONS & asked.keys()):
            raise ValueError(f"{stray[0]} is no sampling setting: it is a condition, or a column, of its own")
        declared = cell_digest(row, "declared_tools", tools_digest)
        return cls(
            decoding_of(asked, as_sent=True),
            number("max_tokens"),
            cell_sha256(row.get("system_prompt", "")),
            number("turns") or 1,
            cell_is_yes("tools", row.get("tools", "")) or bool(declared),
            cell_format(row.get("response_format", "").strip()),
            cell_is_yes("tool_loop", row.get("tool_loop", "")),
            cell_is_yes("prefilled", row.get("prefilled", "")),
            unread=row.get("unread", "").strip(),
            declared=declared,
            schema=cell_digest(row, "format_schema", format_digest),
        )

    def effective_decoding(self, defaults: Mapping[str, Any]) -> str:
        """Return the sampling settings that a tier with these defaults uses, as canonical JSON."""
        return decoding_of({**defaults, **(json.loads(self.decoding) if self.decoding else {})})


PLAIN = Conditions()


def conditions_of(query: Query) -> Conditions:
    """Read under which conditions a request is asked.

    Parameters
    ----------
    query : Query
        With the request's parameters in OpenAI's names.

    Returns
    -------
    Conditions
    """
    parameters, messages = query.parameters, query.messages
    sent = parameters.get("messages") or ()
    kind, tools, functions = (parameters.get(name) for name in ("response_format", "tools", "functions"))
    form = str(kind.get("type") or "of no type" if isinstance(kind, Mapping) else kind or "")
    talk = [message.role for message in messages if message.role not in SYSTEM_ROLES]
    limit = parameters.get("max_tokens", parameters.get("max_completion_tokens"))
    return Conditions(
        decoding_of(parameters, as_sent=True),
        limit if isinstance(limit, int) else None,
        system_prompt_of(messages if talk else (NOBODY_ASKS, *messages)),
        turns_of(messages),
        bool(tools or functions),
        "" if form == "text" else form,
        any(
            message.get("role") in ("tool", "function") or message.get("tool_calls") or message.get("function_call")
            for message in sent
        )
        or any(message.role in ("tool", "function") for message in messages),
        talk[-1:] == ["assistant"],
        parameters.get("n") or 1,
        "" if all(map(_is_plain, sent)) else unread_of(sent),
        tools_digest(tools, functions) if tools or functions else "",
        "" if kind is None else format_digest(kind),
    )


def _is_plain(message: Mapping[str, Any]) -> bool:
    return READ_WHOLE.issuperset(message) and isinstance(message.get("content"), str)


def turns_of(messages: tuple[Message, ...]) -> int:
    """Return the turns of the user, at least one; one more where the assistant is made to have spoken first."""
    turns = sum(message.role == "user" for message in messages)
    first = next((message.role for message in messages if message.role not in SYSTEM_ROLES), "user")
    return max(turns + (first == "assistant"), 1)


def system_prompt_of(messages: tuple[Message, ...]) -> str:
    """Return the sha256 of a conversation's system messages, in hex; empty where there is none.

    The leading ones count by their text. One that comes later is another condition than the same text at the start,
    and one without text another than none: chat templates have prompts of their own where there is none.
    """
    leading: list[str] = []
    late: list[str] = []
    talking = False
    for message in messages:
        if message.role not in SYSTEM_ROLES:
            talking = True
        else:
            (late if talking else leading).append(message.content)
    if not leading and not late:
        return ""
    text = "\n".join(leading) + "".join(f"\0{later}" for later in late)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def decoding_of(settings: Mapping[str, Any], *, as_sent: bool = False) -> str:
    """Return sampling settings in one spelling: canonical JSON without what changes nothing; empty where none is left.

    At temperature 0 nothing that shapes the sampling counts. `as_sent`: those of a request, on top of which no tier's
    defaults have been laid yet, so that 0 and an empty list may still take the place of a default. The order of
    settings does not count; that of members inside them does (a schema in an engine's own field), but of `FREE_ORDER`.
    """
    found = {}
    for name, value in settings.items():
        if value is None or name in NO_DECODING:
            continue
        if name == "stop" and isinstance(value, str):
            value = [value] if value else []
        if (
            (not as_sent or name in OF_REQUESTS)
            and name in NEUTRAL
            and any((value == none and type(value) is not bool) or value is none for none in NEUTRAL[name])
        ):
            continue
        is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= EXACT
        found[name] = float(value) if is_number else _by_name(value) if name in FREE_ORDER else value
    if found.get("temperature") == 0:
        found = {name: value for name, value in found.items() if name not in SHAPES_SAMPLING}
    return json.dumps(_by_name(found), separators=(",", ":"), default=str) if found else ""


def _by_name(value: Any) -> Any:
    return dict(sorted(value.items(), key=lambda member: str(member[0]))) if isinstance(value, Mapping) else value
