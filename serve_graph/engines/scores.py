"""Asking models for a score of an answer: the bodies of vLLM's `/classify`, `/score` and `/rerank`, and their replies.

Of a conversation the score is asked for without its activation: a sigmoid takes the last digits of the best and the
worst answers, and a calibrator puts its own in place of it. Of a pair it is asked for as the model gives it: where
vLLM 0.29 is told to leave out the activation, it leaves out the tanh in the pooler of BERT's cross-encoders. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serve_graph.config.judge import AnswerReader, HostedVerifierConfig
from serve_graph.protocol.responses import MALFORMED

Route = Literal["classify", "score", "rerank"]
NO_SCORE = "no_score"
"""The type of the error that a reply without a score is: the same model says the same of the same answer."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How one verifier model is asked: the route, and of several labels the one that counts."""

    route: Route
    label: int | None = None

    @classmethod
    def of(cls, config: AnswerReader) -> Scoring:
        """What a verifier model's configuration says."""
        if config.reads == "conversation":
            return cls("classify", config.label)
        return cls(config.route if isinstance(config, HostedVerifierConfig) else "score")

    def body(self, messages: Sequence[Mapping[str, Any]], model: str | None) -> dict[str, Any]:
        """Return what is posted of a conversation whose last turn is the answer."""
        named: dict[str, Any] = {"model": model}
        if self.route == "classify":
            return named | {"messages": [dict(turn) for turn in messages], "use_activation": False}
        question, answer = "\n".join(map(text_of, messages[:-1])), text_of(messages[-1])
        if self.route == "rerank":
            return named | {"query": question, "documents": [answer]}
        return named | {"text_1": question, "text_2": answer}

    def score(self, reply: Mapping[str, Any]) -> float:
        """Return the score in a reply, higher is better; raises one of MALFORMED where there is none."""
        if self.route == "rerank":
            return _finite(reply["results"][0]["relevance_score"])
        if self.route == "score":
            return _finite(reply["data"][0]["score"])
        logits = [_finite(one) for one in reply["data"][0]["probs"]]
        if self.label is None:
            if len(logits) != 1:
                raise ValueError(f"the model has {len(logits)} labels: `label` must say which one is meant")
            return logits[0]
        if len(logits) < 2 or self.label >= len(logits):
            raise ValueError(f"label {self.label} of a model with {len(logits)}")
        others = [logit for i, logit in enumerate(logits) if i != self.label]
        most = max(others)
        return logits[self.label] - most - math.log(math.fsum(math.exp(one - most) for one in others))


def score_completion(scoring: Scoring, reply: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a reply as a chat.completion without a text, whose score is under `score`; usage is kept.

    Where it holds no score: an error object with code 502 and the type NO_SCORE.
    """
    try:
        score = scoring.score(reply)
    except MALFORMED as error:
        said = str(error) if isinstance(error, ValueError) else type(error).__name__
        message = f"verifier {name!r} gave a reply without a score ({said})"
        return {"error": {"message": message, "code": 502, "type": NO_SCORE}}
    usage = reply.get("usage")
    return completion_with(score, name, dict(usage) if isinstance(usage, Mapping) else {})


def completion_with(score: float, name: str, usage: dict[str, Any]) -> dict[str, Any]:
    """Return the chat.completion of a score."""
    message = {"role": "assistant", "content": ""}  # nothing is generated, and no tokens of it are counted
    return {
        "id": "score",
        "object": "chat.completion",
        "created": 0,
        "model": name,
        "score": score,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def text_of(turn: Mapping[str, Any]) -> str:
    """Return the text of a turn; parts that are no text are left out."""
    content = turn.get("content") or ""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return "\n".join(str(text) for text in texts if text is not None)


def _finite(number: Any) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a score that is no number")
    return value
