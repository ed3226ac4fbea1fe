"""A verifier model: `ray.serve.llm`'s LLMServer over vLLM's pooling runner, asked through vLLM's own HTTP routes.

The routes are called inside the replica's process, so that one model behind `vllm serve` and here gives one score.
Imports vLLM at its top, like `vllm/deployment`, and is imported in the same two places.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer

from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.engines.scores import Scoring, score_completion
from serve_graph.engines.telemetry.call_context import UNTRACED, CallContext, take_over, trace_headers
from serve_graph.engines.vllm.counters import engine_counters
from serve_graph.engines.weights.loaded_files import LoadedFiles

FIRST_SCORED = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."})


class VllmVerifier(CountedReplica, LLMServer):  # type: ignore[misc]  # Ray ships no types
    """One replica; ready once it has scored an answer. `files` are read and compared before they are loaded; `logs`,
    which sets up the replica's log, is called first.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self,
        llm_config: LLMConfig,
        scoring: Scoring,
        files: LoadedFiles | None = None,
        logs: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.scoring = llm_config.model_id, scoring
        self.traced = bool(llm_config.engine_kwargs.get("otlp_traces_endpoint"))
        if logs is not None:
            logs()
        if files is not None:
            await asyncio.to_thread(files.check)
        await super().__init__(llm_config)
        transport = httpx.ASGITransport(app=await self.engine.build_asgi_app(), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://vllm", timeout=None)
        reply = await self.generate({"messages": list(FIRST_SCORED)})
        if "error" in reply:
            raise RuntimeError(f"verifier {self.name!r} failed its warm-up: {reply['error']['message']}")

    async def generate(self, body: dict[str, Any], carried: CallContext | None = None) -> dict[str, Any]:
        """Return the score of a conversation that ends in an answer, or `{"error": …}` with an HTTP-like `code`."""
        take_over(carried)
        kept = {name: body[name] for name in ("cache_salt", "priority") if name in body}
        asked = self.scoring.body(body["messages"], self.name) | kept
        headers = (trace_headers() or dict(UNTRACED)) if self.traced else {}
        reply = await self.client.post(f"/{self.scoring.route}", json=asked, headers=headers)
        said = _object(reply)
        if reply.status_code != 200:
            inner = said.get("error")
            error = inner if isinstance(inner, dict) else said
            message = str(error.get("message") or error.get("detail") or f"vLLM answered {reply.status_code}")
            return {"error": {"message": message, "code": reply.status_code}}
        return score_completion(self.scoring, said, self.name)

    async def counters(self) -> dict[str, float]:
        return engine_counters()


def _object(reply: httpx.Response) -> dict[str, Any]:
    try:
        said = reply.json()
    except json.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
