"""The echo engine: no model, only answers that repeat the prompt and say so. For tests and benchmarks.

A prompt may contain directives that cause faults: `[echo:fail]` (engine error; `[echo:fail=429]` with that status),
`[echo:refuse]` (the request is rejected), `[echo:slow=SECONDS]`, `[echo:unsure]` (low logprobs), `[echo:break]` (the
stream breaks after its first chunk; `[echo:break=429]`), `[echo:hang=SECONDS]` (the stream pauses there),
`[echo:pace=SECONDS]` (it pauses before each further chunk, as an engine that generates), `[echo:mute]` (calls about an
answer fail). `[echo:words=N]` makes the answer N words long, by saying it again. A directive may name a tier instead:
`[cheap:fail]`.

Calls about an answer (`router_models.estimators.asked_signals`) are answered by the same draw, in [0, 1), that makes
the answer sure where it lies below `skill`, of the question alone: yes with probability 1 - draw; the tokens of a
prompt have the logprob -(0.05 + 3 draw); samples (a temperature and a seed) are the answer with probability 1 - draw,
and verdicts in words that are sampled say "correct" with it;
the first token alone, with its alternatives, is the answer's with probability 1 - draw / 2.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
import struct
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from router_models.estimators.questions.last_tier import LAST_TIER_QUESTION
from serve_graph.config.tiers.kinds import EchoTierConfig

_QUESTION = re.compile(r"<question (\w+)>\n(.*)\n</question \1>", re.DOTALL)
_ASKS_VERDICT = re.compile(r"\nEnd (\w{12})\nVerdict:\Z")
_DIRECTIVE = re.compile(r"\[(\w+):(\w+)(?:=([\d.]+))?\]")
MOST_WORDS = 100_000


class EchoError(Exception):
    """A fault that the prompt requested; `status` is the HTTP status that a real engine would return."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status


class EchoEngine:
    """Answer `echo <tier>: <prompt>` in OpenAI's shape.

    Deterministic: a hash of the prompt selects the share `skill` of prompts whose answers have logprobs near 0; those
    of the others are low.
    """

    def __init__(self, config: EchoTierConfig) -> None:
        self.config = config
        self.context_limit = config.context_limit

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a chat.completion for an OpenAI chat body; raises EchoError if the prompt requests a fault."""
        prompt = prompt_of(body)
        directives = self._directives(prompt)
        await asyncio.sleep(self.config.latency_s + float(directives.get("slow") or 0.0))
        if "fail" in directives:
            raise EchoError(f"the echo engine {self.config.name!r} was asked to fail", int(directives["fail"] or 500))
        if "refuse" in directives:
            raise EchoError(f"the echo engine {self.config.name!r} was asked to refuse", 400)
        question = question_of(body)
        if question is not None and "mute" in directives:
            raise EchoError(f"the echo engine {self.config.name!r} was asked to be mute", 500)
        prompt_tokens = len(prompt) // 4 + 1
        if prompt_tokens > self.context_limit:
            limit = self.context_limit
            raise EchoError(f"maximum context length is {limit} tokens, the prompt has {prompt_tokens}", 400)
        all_words = echo_words(self.config.name, prompt, int(float(directives.get("words") or 0)))
        if question is not None and (seed := body.get("seed")) is not None:
            agrees = _agrees(question, seed)
            if _checked_question(prompt) is not None:
                all_words = f"The AI answer is {'correct' if agrees else 'incorrect'}.".split(" ")
            elif not agrees:
                all_words[1] = f"{self.config.name} (sample {seed}):"
        words = all_words[: int(body.get("max_tokens") or 256)]
        sure = "unsure" not in directives and self._is_sure(prompt)
        tokens: list[dict[str, Any]] = [
            {"token": w, "logprob": -0.01 if sure else -3.0, "top_logprobs": []} for w in words
        ]
        is_verdict, about = question is not None and body.get("max_tokens") == 1, {}
        if question is not None and is_verdict:
            said = _first_token(question) if question == prompt else _yes_or_no(question)
            words, tokens = [str(said["token"])], [said]
            if body.get("prompt_logprobs") is not None:
                about["prompt_logprobs"] = _prompt_logprobs(prompt, question)
        return about | {
            "id": f"chatcmpl-echo-{hashlib.sha256(prompt.encode()).hexdigest()[:12]}",
            "object": "chat.completion",
            "created": 0,
            "model": self.config.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(words)},
                    "finish_reason": "length" if question is not None and len(words) < len(all_words) else "stop",
                    "logprobs": {"content": tokens},
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": len(words),
                "total_tokens": prompt_tokens + len(words),
            },
        }

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the same answer as chat.completion.chunk dicts of one word; usage at the end, or in all if asked."""
        whole = await self.generate(body)
        directives = self._directives(prompt_of(body))
        head = {"id": whole["id"], "object": "chat.completion.chunk", "created": 0, "model": whole["model"]}
        words = whole["choices"][0]["message"]["content"].split(" ")
        tokens = whole["choices"][0]["logprobs"]["content"]
        each = bool((body.get("stream_options") or {}).get("continuous_usage_stats"))
        for i, word in enumerate(words):
            if i == 1 and "break" in directives:
                raise EchoError(
                    f"the echo engine {self.config.name!r} was asked to break its stream",
                    int(directives["break"] or 500),
                )
            if i == 1 and "hang" in directives:
                await asyncio.sleep(float(directives["hang"] or 3600.0))
            if i and "pace" in directives:
                await asyncio.sleep(float(directives["pace"] or 0.0))
            delta = {"role": "assistant"} if i == 0 else {}
            text = word if i == 0 else f" {word}"
            choice = {"index": 0, "delta": delta | {"content": text}, "finish_reason": None}
            choice["logprobs"] = {"content": [tokens[i]]}
            sent = {"prompt_tokens": whole["usage"]["prompt_tokens"], "completion_tokens": i + 1}
            yield head | {"choices": [choice]} | ({"usage": sent} if each else {})
        yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield head | {"choices": [], "usage": whole["usage"]}

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return an embeddings reply: 8 numbers in [0, 1) per input, a hash without meaning."""
        given = body["input"]
        one = isinstance(given, str) or isinstance(given[0], int)
        inputs = [repr(given)] if one else [repr(item) for item in given]
        vectors = [[byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:8]] for text in inputs]
        if body.get("encoding_format") == "base64":
            packed: list[Any] = [base64.b64encode(struct.pack("<8f", *vector)).decode() for vector in vectors]
        else:
            packed = list(vectors)
        tokens = sum(len(text) // 4 + 1 for text in inputs)
        return {
            "object": "list",
            "model": self.config.name,
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(packed)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _directives(self, prompt: str) -> dict[str, str]:
        found = self.directives_of(prompt)
        return {word: value for target, word, value in found if target in ("echo", self.config.name)}

    @staticmethod
    def directives_of(text: str) -> list[tuple[str, str, str]]:
        """Return all directives in a text: whom they name, the word, its value or an empty string."""
        return _DIRECTIVE.findall(text)

    def _is_sure(self, prompt: str) -> bool:
        return question_draw(prompt) < self.config.skill


def echo_words(name: str, prompt: str, words: int = 0) -> list[str]:
    """The words of an engine's whole answer; said again, and cut off, until there are `words` of them, unless 0.

    No more than `MOST_WORDS` are made, whatever a prompt asks for.
    """
    said = f"echo {name}: {prompt}".split(" ")
    if not words:
        return said
    return [said[i % len(said)] for i in range(min(words, MOST_WORDS))]


def question_of(body: Mapping[str, Any]) -> str | None:
    """Return the question of a call about an answer to it; None where the body is none such.

    Those are calls of one token that want its alternatives or the prompt's logprobs, and samples at a temperature that
    have a seed.
    """
    messages = body["messages"]
    if body.get("max_tokens") == 1 and body.get("prompt_logprobs") is not None:
        return prompt_of({"messages": messages[:-1]})
    if body.get("max_tokens") == 1 and body.get("top_logprobs"):
        shown = _QUESTION.search(prompt_of({"messages": messages[-1:]}))
        about_last = len(messages) > 2 and messages[-1].get("content") == LAST_TIER_QUESTION
        return shown.group(2) if shown else prompt_of({"messages": messages[:-2] if about_last else messages})
    if body.get("seed") is None or not body.get("temperature"):
        return None
    checked = _checked_question(sampled := prompt_of(body))
    return sampled if checked is None else checked


def _checked_question(prompt: str) -> str | None:
    """The question whose answer a prompt asks a verdict in words about; None where it asks for none.

    One pass over the prompt, whatever it repeats: anybody may send one.
    """
    asks = _ASKS_VERDICT.search(prompt, max(0, len(prompt) - 32))
    if asks is None:
        return None
    _, begins, rest = prompt.rpartition(f"\nQuestion {asks[1]}\n")
    question, answered, _ = rest.partition(f"\nAI answer {asks[1]}\n")
    return question if begins and answered else None


def question_draw(text: str) -> float:
    """A number in [0, 1) that follows from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


def _agrees(question: str, seed: int) -> bool:
    return question_draw(f"{seed} {question}") >= question_draw(question)


def _yes_or_no(question: str) -> dict[str, Any]:
    return _one_of("Yes", "No", min(max(1.0 - question_draw(question), 0.01), 0.99))


def _first_token(question: str) -> dict[str, Any]:
    return _one_of("echo", "perhaps", min(max(1.0 - question_draw(question) / 2, 0.51), 0.999))


def _one_of(first: str, second: str, p: float) -> dict[str, Any]:
    top = [{"token": word, "logprob": math.log(share)} for word, share in ((first, p), (second, 1.0 - p))]
    said = max(top, key=lambda one: float(str(one["logprob"])))
    return {**said, "top_logprobs": top}


def _prompt_logprobs(prompt: str, question: str) -> list[dict[str, Any] | None]:
    logprob = -(0.05 + 3.0 * question_draw(question))
    words = [{str(i): {"logprob": logprob, "rank": 1, "decoded_token": f" {w}"}} for i, w in enumerate(prompt.split())]
    return [None, *words]


def prompt_of(body: Mapping[str, Any]) -> str:
    """Return the text of all messages; parts that are no text are left out."""
    contents = [message.get("content") or "" for message in body["messages"]]
    parts = [part for content in contents for part in (content if isinstance(content, list) else [content])]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "\n".join(str(text) for text in texts if text is not None)
