"""An echo verifier model: no model, only a score that follows from the question. For tests and benchmarks."""

from __future__ import annotations

import asyncio
from typing import Any

from serve_graph.config.judge import EchoVerifierConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.echo.engine import EchoEngine, EchoError, prompt_of, question_draw
from serve_graph.engines.scores import completion_with


class EchoVerifier(EchoEngine):
    """Score an answer by 3 - 6 · draw of the question alone, which makes echo tiers' answers sure or not.

    Directives in the conversation that name it, such as `[NAME:fail]` and `[NAME:slow=2]`, cause faults;
    `[NAME:TIER=2]` adds 2 to the score of that echo tier's answer, so that it is not the other's.
    """

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the score of a conversation that ends in an answer; raises EchoError for a fault."""
        said = prompt_of(body)
        directives = {word: value for name, word, value in self.directives_of(said) if name == self.config.name}
        await asyncio.sleep(self.config.latency_s + float(directives.get("slow") or 0.0))
        if "fail" in directives:
            raise EchoError(
                f"the echo verifier {self.config.name!r} was asked to fail", int(directives["fail"] or 500)
            )
        tokens = len(said) // 4 + 1
        if tokens > self.context_limit:
            raise EchoError(f"maximum context length is {self.context_limit} tokens, these are {tokens}", 400)
        question = prompt_of({"messages": body["messages"][:-1]})
        answer = prompt_of({"messages": body["messages"][-1:]})
        more = next(
            (float(value or 0.0) for tier, value in directives.items() if answer.startswith(f"echo {tier}:")), 0.0
        )
        usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
        return completion_with(3.0 - 6.0 * question_draw(question) + more, self.config.name, usage)


def echo_engine(config: EchoTierConfig) -> EchoEngine:
    """Return the engine of a tier, or of a verifier model, without a model."""
    return EchoVerifier(config) if isinstance(config, EchoVerifierConfig) else EchoEngine(config)
