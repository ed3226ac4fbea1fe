"""The vLLM tier: `ray.serve.llm`'s LLMServer with plain-dict calls, a warm-up and vLLM's counters.

With `vllm/embedder` the only module that imports `ray.serve.llm.deployment`, and with it vLLM, at its top. It is
imported by the engine's replica, and by `app` if a vLLM tier is configured. Callers send OpenAI bodies as dicts so
that no other process has to import vLLM.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ray.llm._internal.serve.core.protocol import RawRequestInfo
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from serve_graph.engines.joined_chunks import joined_chunks
from serve_graph.engines.replica_counters import CountedReplica
from serve_graph.engines.telemetry.call_context import UNTRACED, CallContext, take_over, trace_headers
from serve_graph.engines.vllm.counters import KV_CACHE, engine_counters, kv_cache_use
from serve_graph.engines.weights.loaded_files import LoadedFiles

logger = logging.getLogger(__name__)
WARM_UP = ("Hi", "Name three colours, then three numbers, then three animals.")


class VllmDeployment(CountedReplica, LLMServer):  # type: ignore[misc]  # Ray ships no types
    """One replica of a vLLM tier; ready once it is warmed up, as a cold engine's first request takes many seconds.

    `adapters` is the folder of the LoRA adapters, unless they are in a remote store; `files` are read and compared
    before the engine loads them. `logs` is called first: it sets up the replica's log.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self,
        llm_config: LLMConfig,
        adapters: str | None = None,
        files: LoadedFiles | None = None,
        logs: Callable[[], None] | None = None,
    ) -> None:
        self.engine_kwargs = llm_config.engine_kwargs
        self._loads_adapter = asyncio.Lock()
        if logs is not None:
            logs()
        if files is not None:
            await asyncio.to_thread(files.check)
        await super().__init__(
            llm_config, model_downloader=None if adapters is None else partial(AdapterFolder, Path(adapters))
        )
        for prompt in WARM_UP:
            body = {"model": llm_config.model_id, "messages": [{"role": "user", "content": prompt}]}
            reply = await self.generate(body | {"max_tokens": 8, "temperature": 0.0, "logprobs": True})
            if "error" in reply:
                raise RuntimeError(f"tier {llm_config.model_id!r} failed its warm-up: {reply['error']['message']}")

    async def generate(self, body: dict[str, Any], carried: CallContext | None = None) -> dict[str, Any]:
        """Return a chat.completion as a dict, or `{"error": …}` with an HTTP-like `code`."""
        take_over(carried)
        request = _request(body)
        if isinstance(request, dict):
            return request
        async for reply in await self.chat(request, traced_request(self.engine_kwargs)):
            data: dict[str, Any] = reply.model_dump(mode="json", exclude_none=True)
            return data
        return {"error": {"message": "the engine gave no reply", "code": 500}}

    async def stream(
        self, body: dict[str, Any], carried: CallContext | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield chat.completion.chunk dicts in LLMServer's batches, the texts of one as one chunk.

        `{"error": …}` is the last if the engine fails.
        """
        take_over(carried)
        request = _request(body)
        if isinstance(request, dict):
            yield [request]
            return
        async for batch in await self.chat(request, traced_request(self.engine_kwargs)):
            items = batch if isinstance(batch, list) else [batch]
            if pieces := [piece for item in items for piece in _pieces(item)]:
                yield joined_chunks(pieces)

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        """Load the adapter that a request asks for, one after the other.

        Of several first requests for one Ray (2.60) has each load it, and vLLM refuses all loads but one.
        """
        async with self._loads_adapter:
            await super()._maybe_resolve_lora_from_multiplex()

    async def counters(self) -> dict[str, float]:
        return engine_counters()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Say how full the KV cache is; Ray Serve asks, and passes it to the deployment's autoscaling policy."""
        return {KV_CACHE: kv_cache_use()}


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """The location of an adapter, with the fields that LLMServer reads."""

    model_id: str
    local_path: str


class AdapterFolder:
    """Loads adapters from a folder, in place of LLMServer's remote loader: `<tier>:<name>` → `folder/<name>`."""

    def __init__(self, folder: Path, **_: Any) -> None:
        self.folder = folder

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> FoundAdapter:
        return FoundAdapter(lora_model_id, str(self.folder / lora_model_id.rpartition(":")[2]))


def traced_request(engine_kwargs: Mapping[str, Any]) -> RawRequestInfo | None:
    """What vLLM reads of a request besides its body: the trace of its own span. None: it makes none."""
    if not engine_kwargs.get("otlp_traces_endpoint"):
        return None
    return RawRequestInfo(headers=trace_headers() or dict(UNTRACED))


def _request(body: dict[str, Any]) -> Any:
    """Build vLLM's request; returns an error dict if vLLM's validation rejects it."""
    try:
        return ChatCompletionRequest(**body)
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        message = str(error)
        if problems:
            place = ".".join(map(str, problems[0].get("loc", ())))
            message = f"{place}: {problems[0]['msg']}" if place else str(problems[0]["msg"])
        return {"error": {"message": message, "code": 400}}


def _pieces(item: Any) -> list[dict[str, Any]]:
    """Convert one item of LLMServer's stream (SSE text or an error model) to chunk dicts."""
    if not isinstance(item, str):
        return [item.model_dump(mode="json", exclude_none=True)]
    lines = [line for line in item.split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    return [json.loads(line.removeprefix("data: ")) for line in lines]
