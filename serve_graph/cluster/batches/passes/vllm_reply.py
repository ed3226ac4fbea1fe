"""What an engine of vLLM gave in a pass, as the reply that vLLM's server would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def completion_reply(tier: str, data: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The chat.completion of an engine's output.

    `told`: the token ids that are `ends` of an answer, its `max_tokens`, how many of the likeliest tokens are named
    with each (`top`), and the token ids of the `prompt`, where its logprobs are wanted.
    """
    ids, ends = [int(token) for token in data["generated_tokens"]], told["ends"]
    is_cut = len(ids) >= told["max_tokens"] and not (ids and ids[-1] in ends)
    logprobs = []
    for token, found in zip(ids, data.get("logprobs") or (), strict=False):
        likeliest = [one for one in found.values() if one is not None][: told.get("top") or 0]
        top = {"top_logprobs": [_logprob(one) for one in likeliest]} if likeliest else {}
        logprobs.append(_logprob(_of_token(found, token)) | top)
    more = {}
    if told.get("prompt") is not None and data.get("prompt_logprobs") is not None:
        more["prompt_logprobs"] = [
            None if found is None or not (own := _of_token(found, token)) else {str(token): own}
            for token, found in zip(told["prompt"], data["prompt_logprobs"], strict=False)
        ]
    prompt, made = int(data["num_input_tokens"]), len(ids)
    return more | {
        "object": "chat.completion",
        "model": tier,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": data["generated_text"]},
                "finish_reason": "length" if is_cut else "stop",
                "logprobs": {"content": logprobs},
            }
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
    }


def _of_token(found: Mapping[Any, Any], token: int) -> dict[str, Any]:
    return found.get(token) or found.get(str(token)) or {}


def _logprob(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A token with its logprob, as vLLM's server shows them."""
    if "logprob" not in chosen:
        return {"token": "", "logprob": -9999.0}
    return {"token": chosen.get("decoded_token") or "", "logprob": max(float(chosen["logprob"]), -9999.0)}


def engine_seconds(data: Mapping[str, Any]) -> float:
    """Seconds that a row was worked on in the engine; what it waited for its turn is no time of the engine's."""
    metrics = data.get("metrics") or {}
    began, ended = metrics.get("scheduled_ts"), metrics.get("last_token_ts")
    if began and ended and ended >= began:
        return float(ended - began)
    return float(data.get("time_taken_llm") or 0.0)
