"""A tier's Ray Serve handle as the cascade's Engine and StreamingEngine, behind its admission control."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import replace
from typing import Any

from ray.serve.exceptions import BackPressureError

from router_models.types import Attempt, Completion, Query
from serve_graph.access.caller import CALLER
from serve_graph.cluster.load.admission import AdmissionController
from serve_graph.cluster.replicas.handle_methods import HandleMethods
from serve_graph.cluster.replicas.in_process import TierHandle
from serve_graph.config.judge import AnswerReader
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.engines.error_meanings import ErrorFault, ErrorMeaning, meaning_of
from serve_graph.engines.telemetry.call_context import carried
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError, SaturatedError, TierSetupError
from serve_graph.protocol.fields import WITHHELD
from serve_graph.protocol.requests import EngineBody, engine_body
from serve_graph.protocol.responses import MALFORMED, completion_of

BACKGROUND_PRIORITY = 1
"""Of work that nobody waits for, where vLLM schedules by priority: 0 is that of requests, and goes first."""
GRACE_S = 1.0  # a hosted tier watches its own deadline, and can say what it tried: it gets a moment more


class HandleEngine:
    """Every failure becomes an EngineError; a request waits for its admission, and what it waited is off its
    time: the tier's `timeout_s` (for the whole answer, or for each next piece of a stream), and what the request has
    left for everything.
    """

    def __init__(self, handle: TierHandle, config: AnyTierConfig) -> None:
        adapter = adapter_of(config)
        self.handle: Any = handle if adapter is None else handle.options(multiplexed_model_id=adapter)
        self.methods = HandleMethods(self.handle)
        self.model = adapter or config.engine_name
        self.config = config
        self.gate = admission_for(config)
        self.answered_at = float("-inf")  # time.monotonic() of the last reply or piece: a sign of life
        self.defaults = {**config.decoding, "max_tokens": config.default_max_tokens}
        self.salted = isinstance(config, VllmTierConfig) and config.prefix_cache == "key"
        self.has_priorities = has_priorities(config)
        self.scores = isinstance(config, AnswerReader)
        self.hosted = isinstance(config, HostedTierConfig)
        self.grace_s = GRACE_S if self.hosted else 0.0
        self.is_beside = False
        # Usage on every chunk, so that a stream cut short is billed for what it said; hosted APIs know no such field.
        self.stream_extras = {} if self.hosted else {"continuous_usage_stats": True}

    def beside(self) -> HandleEngine:
        """The same tier and admission for calls that no caller waits for: their failures are no matter of callers."""
        made = copy(self)
        made.is_beside = True
        return made

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        body = self._body(query)
        async with self._place(min(self.config.timeout_s, left_s)) as left_s:
            started = time.perf_counter()
            reply = await self._reply("generate", body, left_s)
            attempts = reply.pop("attempts", ())
            raise_error(reply, self.config.name, attempts)
            try:
                made = completion_of(reply, time.perf_counter() - started)
                return replace(made, attempts=attempts) if attempts else made
            except MALFORMED as error:
                raise EngineError(
                    f"tier {self.config.name!r} gave a reply that is no completion ({type(error).__name__})", attempts
                ) from error

    async def embed(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        withheld = WITHHELD[self.config.engine]
        body = {k: v for k, v in body.items() if k not in withheld and (v is not None or self.hosted)}
        async with self._place(self.config.timeout_s) as left_s:
            reply = await self._reply("embed", {**body, "model": self.model}, left_s)
        attempts = reply.pop("attempts", ())
        raise_error(reply, self.config.name, attempts)
        if not isinstance(reply.get("data"), list):
            raise EngineError(f"tier {self.config.name!r} gave a reply that holds no embeddings", attempts)
        return reply

    async def _reply(self, method: str, body: dict[str, Any], left_s: float) -> dict[str, Any]:
        response = self.methods.of(method).remote(body, *self._deadline(left_s), **carried())
        done = False
        try:
            async with asyncio.timeout(left_s + self.grace_s):  # wait_for would make a task
                reply: dict[str, Any] = await response
            self.answered_at = time.monotonic()
            done = True
        except TimeoutError:
            raise EngineTimeoutError(f"tier {self.config.name!r} took over {left_s:.3g} s") from None
        except Exception as error:
            raise self._failure(error) from error
        finally:
            if not done:
                response.cancel()  # nobody waits for it: the replica must not go on generating
        _check_object(reply, self.config.name)
        return reply

    async def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        """Chunks as the engine sends them. `attempts` beside the first: the calls that it took.

        A replica sends chunks, or lists of those that it had at the same time: each of its messages costs a hop.
        """
        until = time.monotonic() + left_s
        body = self._body(query)
        obfuscation = (query.parameters.get("stream_options") or {}) if self.hosted else {}
        body |= {"stream": True, "stream_options": {**obfuscation, "include_usage": True, **self.stream_extras}}
        async with self.gate.place(min(self.config.timeout_s, left_s)) as left_s:
            pieces = self.methods.of("stream", stream=True).remote(body, *self._deadline(left_s), **carried())
            wait_s = left_s + self.grace_s
            done = False
            try:
                while True:
                    try:
                        async with asyncio.timeout(wait_s):
                            piece = await anext(pieces)
                    except StopAsyncIteration:
                        done = True
                        return
                    except TimeoutError:
                        raise EngineTimeoutError(f"tier {self.config.name!r} fell silent") from None
                    except Exception as error:
                        raise self._failure(error) from error
                    for chunk in piece if isinstance(piece, list) else (piece,):
                        _check_object(chunk, self.config.name)
                        raise_error(chunk, self.config.name, chunk.get("attempts", ()))
                        self.answered_at = time.monotonic()
                        yield chunk
                    wait_s = min(self.config.timeout_s, until - time.monotonic()) + self.grace_s
            finally:
                if not done:
                    pieces.cancel()

    def _body(self, query: Query) -> dict[str, Any]:
        if self.scores:  # a verifier model generates nothing: it is sent the conversation alone
            body = EngineBody({"messages": query.parameters["messages"]})
        else:
            body = engine_body(query, self.model, self.defaults, self.config.engine)
        if not self.hosted:
            body.pop("anthropic_cache_control", None)
        if self.salted and (key := CALLER.get().key) is not None:
            body["cache_salt"] = hashlib.sha256(f"cache {key.sha256}".encode()).hexdigest()[:32]
        if self.has_priorities and CALLER.get().in_background:
            body["priority"] = BACKGROUND_PRIORITY
        return body

    def _place(self, seconds: float) -> AbstractAsyncContextManager[float]:
        return self.gate.place_behind(seconds) if CALLER.get().in_background else self.gate.place(seconds)

    def _deadline(self, left_s: float) -> tuple[float, ...]:
        """What a hosted tier is told beside the body: it spends its time on several calls."""
        if not self.hosted:
            return ()
        return (left_s, True) if self.is_beside else (left_s,)

    def _failure(self, error: Exception) -> EngineError:
        """Whatever Ray raised, for a dead replica or a full queue."""
        if isinstance(error, BackPressureError):
            return SaturatedError(f"tier {self.config.name!r} is saturated: its replicas take no more")
        return EngineError(f"tier {self.config.name!r} is unavailable ({type(error).__name__})")


def has_priorities(config: AnyTierConfig) -> bool:
    """Whether a tier's engine schedules by priority: `engine_kwargs: {scheduling_policy: priority}`."""
    return isinstance(config, VllmTierConfig) and config.engine_kwargs.get("scheduling_policy") == "priority"


def adapter_of(config: AnyTierConfig) -> str | None:
    """The LoRA adapter a tier answers with, in Ray's words: `<model id>:<adapter>`."""
    if isinstance(config, VllmTierConfig) and config.lora is not None and config.lora.adapter is not None:
        return f"{config.engine_name}:{config.lora.adapter}"
    return None


def admission_for(config: AnyTierConfig) -> AdmissionController:
    """The tier's admission control; what its configuration leaves open follows from its scaling."""
    most = config.scaling.max_ongoing_requests * config.scaling.max_replicas
    in_flight = config.admission.max_in_flight or most
    queued = config.admission.max_queued
    return AdmissionController(config.name, in_flight, in_flight if queued is None else queued)


def _check_object(reply: Any, tier: str) -> None:
    if not isinstance(reply, Mapping):
        raise EngineError(f"tier {tier!r} gave a reply that is no object")


def raise_error(reply: Mapping[str, Any], tier: str, attempts: Sequence[Attempt] = ()) -> None:
    """Turn an engine's error object into the exception it means: 4xx is the request's fault, the rest the tier's."""
    error = reply.get("error")
    if not error:
        return
    message, status = str(error.get("message", "unknown error")), str(error.get("code") or 500)
    code = int(status) if status.isdecimal() else 500
    kind, param = error.get("type"), error.get("param")
    if "fault" in error:
        meaning = ErrorMeaning(ErrorFault(error["fault"]), error["reason"], param)
    else:
        worded = not status.isdecimal()
        meaning = meaning_of(None if worded else code, message, status if worded else None, kind, param)
    recordable, said = f"its engine answered {code}", f"tier {tier!r}: {message}"
    wait_s = error.get("retry_after_s")
    match meaning.fault:
        case ErrorFault.REQUEST:
            raise EngineRequestError(message, meaning.code, attempts, recordable, param=meaning.param, kind=kind)
        case ErrorFault.SETUP:
            raise TierSetupError(said, attempts, recordable=f"{recordable}: its key, account or model is refused")
        case ErrorFault.BUSY:
            raise SaturatedError(said, attempts, wait_s, recordable)
        case ErrorFault.TIMEOUT:
            raise EngineTimeoutError(said, attempts, wait_s, recordable)
        case ErrorFault.UNAVAILABLE:
            raise EngineError(said, attempts, wait_s, recordable)
