"""An embedding model: `ray.serve.llm`'s LLMServer over vLLM's pooling runner.

Imports vLLM at its top, like `vllm/deployment`, and is imported in the same two places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import EmbeddingRequest

from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.engines.telemetry.call_context import CallContext, take_over
from serve_graph.engines.vllm.counters import engine_counters
from serve_graph.engines.vllm.deployment import traced_request
from serve_graph.engines.weights.loaded_files import LoadedFiles

REQUEST: TypeAdapter[Any] = TypeAdapter(EmbeddingRequest)  # the union of inputs that can be embedded


class VllmEmbedder(CountedReplica, LLMServer):  # type: ignore[misc]  # Ray ships no types
    """One replica; ready once it has computed an embedding. `files` are read and compared before they are loaded;
    `logs`, which sets up the replica's log, is called first.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, llm_config: LLMConfig, files: LoadedFiles | None = None, logs: Callable[[], None] | None = None
    ) -> None:
        self.engine_kwargs = llm_config.engine_kwargs
        if logs is not None:
            logs()
        if files is not None:
            await asyncio.to_thread(files.check)
        await super().__init__(llm_config)
        reply = await self.embed({"model": llm_config.model_id, "input": "warm-up"})
        if "error" in reply:
            raise RuntimeError(f"embedder {llm_config.model_id!r} failed its warm-up: {reply['error']['message']}")

    async def embed(self, body: dict[str, Any], carried: CallContext | None = None) -> dict[str, Any]:
        """Return an embeddings reply as a dict, or `{"error": …}` with an HTTP-like `code`."""
        take_over(carried)
        try:
            request = REQUEST.validate_python(body)
        except ValueError as error:
            return {"error": {"message": str(error), "code": 400}}
        async for reply in await self.embeddings(request, traced_request(self.engine_kwargs)):
            data: dict[str, Any] = reply.model_dump(mode="json", exclude_none=True)
            return data
        return {"error": {"message": "the engine gave no reply", "code": 500}}

    async def counters(self) -> dict[str, float]:
        return engine_counters()
