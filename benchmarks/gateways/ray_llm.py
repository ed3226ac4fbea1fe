"""`ray.serve.llm.build_openai_app` over our echo engine, as Ray Serve's own endpoint for the same answers.

    python -m benchmarks.gateways.ray_llm --port 8000 [--constant]

A replica of `LLMServer` calls the engine, Ray Serve's OpenAI ingress calls the replica, behind HAProxy and in the
throughput mode that our own graphs run in: the same environment (`serve_graph.cli.local.launch`). `--constant`: an
ingress of FastAPI instead that replies one completion to all, reads nothing of a request and calls nobody: what Ray
Serve takes by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from benchmarks.gateways.upstream import MODEL
from serve_graph.cli.local.launch import prepare_environment
from serve_graph.config.graph import load_config

CONFIG = Path(__file__).parents[2] / "configs" / "echo.yaml"


def deployed(port: int) -> None:
    """Start a Ray cluster of this process and the application on it."""
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, LLMServer, build_openai_app
    from ray.serve.llm.openai_api_models import ChatCompletionResponse

    from serve_graph.config.prices import PriceConfig
    from serve_graph.config.tiers.kinds import EchoTierConfig
    from serve_graph.engines.echo.engine import EchoEngine

    class Echo:
        """Ray's protocol of an engine."""

        def __init__(self, llm_config: LLMConfig) -> None:
            price = PriceConfig.model_validate({"input_usd_per_mtok": 0, "output_usd_per_mtok": 0})
            self.engine = EchoEngine(EchoTierConfig(name=llm_config.model_id, engine="echo", price=price))

        async def start(self) -> None:
            return None

        def routing_stats(self) -> dict[str, Any]:
            return {}

        async def check_health(self) -> None:
            return None

        async def chat(self, request: Any, _: Any = None) -> AsyncIterator[Any]:
            body = request.model_dump(exclude_unset=True)
            if not request.stream:
                yield ChatCompletionResponse.model_validate(await self.engine.generate(body))
                return
            async for chunk in self.engine.stream(body):
                yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"

    class EchoServer(LLMServer):  # type: ignore[misc]
        """Ray's server of a model, over that engine."""

        _default_engine_cls = Echo

        @classmethod
        def get_deployment_options(cls, llm_config: LLMConfig) -> dict[str, Any]:
            return {"max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 1}}

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR", address="local")
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    config = LLMConfig(model_loading_config={"model_id": MODEL, "model_source": MODEL}, server_cls=EchoServer)
    serve.run(build_openai_app({"llm_configs": [config]}), name="llm", blocking=False)


def deployed_constant(port: int) -> None:
    """Start a Ray cluster of this process and an ingress on it that always replies the same."""
    import ray
    from fastapi import FastAPI
    from ray import serve

    app = FastAPI()
    said = {"role": "assistant", "content": "It is what it is."}
    completion = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 6, "total_tokens": 14},
    }  # fmt: skip
    content = json.dumps(completion)

    @serve.deployment(max_ongoing_requests=512, ray_actor_options={"num_cpus": 1})
    @serve.ingress(app)
    class Constant:
        """Replies without looking."""

        @app.get("/v1/models")
        async def models(self) -> Response:
            return Response("{}", media_type="application/json")

        @app.post("/v1/chat/completions")
        async def chat(self, request: Request) -> Response:
            await request.body()
            return Response(content, media_type="application/json")

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR", address="local")
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(Constant.bind(), name="constant", blocking=False)


def main() -> None:
    """Serve on loopback until stopped."""
    reads = argparse.ArgumentParser(description=main.__doc__)
    reads.add_argument("--port", type=int, required=True)
    reads.add_argument("--constant", action="store_true", help="reply the same to all, without an engine")
    chosen = reads.parse_args()
    port = chosen.port
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp") as scratch:
        prepare_environment(load_config(CONFIG), Path(scratch))
        os.environ["RAY_PROMETHEUS_HOST"] = "http://127.0.0.1:1"  # nothing is scraped from here
        (deployed_constant if chosen.constant else deployed)(port)
        threading.Event().wait()


if __name__ == "__main__":
    main()
