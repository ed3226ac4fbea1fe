"""A tier of vLLM in a pass: `ray.data.llm`'s engine stage, with the arguments that the tier is served with.

The engine is told token ids and sampling parameters, as the served one makes them of a request (its chat template, its
`generation_config`), and its output is put into the reply that the served one would give. What the served one does
besides is refused beforehand (`passes_faults`): such a tier's rows go through a running graph.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from serve_graph.cluster.batches.passes.pass_rows import error_reply
from serve_graph.cluster.batches.passes.vllm_reply import completion_reply, engine_seconds
from serve_graph.cluster.batches.passes.workers import tier_body
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import llm_config
from serve_graph.engines.weights.loaded_files import loaded_files
from serve_graph.engines.weights.resolve import resolve_weights
from serve_graph.errors import ConfigError, EngineError

SAMPLING = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
        "seed", "stop", "stop_token_ids", "min_tokens", "ignore_eos", "skip_special_tokens",
    }
)  # fmt: skip
GENERATION_DEFAULTS = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p")
UNTOLD = frozenset(
    {
        "messages", "model", "max_tokens", "logprobs", "top_logprobs", "prompt_logprobs", "chat_template_kwargs",
        "add_generation_prompt", "continue_final_message", "response_format",
    }
)  # fmt: skip
KEPT_COLUMNS = ("key", "body", "story", "call")
BATCH_ROWS = 64
TRIES_OF_A_PIECE = 1
"""How often a piece is tried again whose engine died."""
MOST_SEQS = 256
"""vLLM's usual `max_num_seqs`, by which the number of batches under way is chosen where none is configured."""
USUAL_STEP_TOKENS = 2048
"""vLLM's usual `max_num_batched_tokens` of an engine that is no server; a step computes a token of every row."""


def passes_faults(tier: VllmTierConfig) -> str | None:
    """Why a tier's answers in a pass would not be those that it is served with; None where they are."""
    if tier.lora is not None:
        return f"{tier.name} has LoRA adapters"
    for name in ("reasoning_parser", "chat_template", "chat_template_content_format"):
        if tier.engine_kwargs.get(name):
            return f"{tier.name} is served with {name}"
    if unknown := sorted(tier.decoding.keys() - SAMPLING - UNTOLD):
        return f"{tier.name} decodes with {unknown[0]}"
    return None


def worker_place(tier: VllmTierConfig) -> tuple[str, dict[str, str]]:
    """vLLM's `distributed_executor_backend` and environment: one worker computes in the engine's own process.

    `ray.serve.llm` gives the worker a process of its own (on CPU `mp`), for which the engine waits in a loop that
    takes a processor. It computes the same in either. On CPU vLLM insists on that process in order to bind threads to
    processors; where the tier says `nobind` nothing is bound.
    """
    workers = math.prod(int(tier.engine_kwargs.get(f"{way}_parallel_size") or 1) for way in ("tensor", "pipeline"))
    if tier.accelerator != "cpu":
        return ("uni" if workers == 1 else "ray"), {}
    if workers == 1 and tier.env.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
        return "uni", {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return "mp", {}


def with_max_num_seqs(tier: VllmTierConfig, seqs: int | None) -> VllmTierConfig:
    """The tier with an engine that computes up to `seqs` rows at a time; as it is served where None.

    Nobody waits for a single row of a pass, so that more rows at a time cost nobody anything but memory. Where they
    are more than the tokens of a step, by vLLM's usual number, the step has as many.

    Raises ConfigError where the tier's `max_num_batched_tokens` has no room for a token of each.
    """
    if seqs is None:
        return tier
    tokens = tier.engine_kwargs.get("max_num_batched_tokens")
    if tokens is not None and int(tokens) < seqs:
        raise ConfigError(
            f"{tier.name} has max_num_batched_tokens {tokens}, which is less than --max-num-seqs {seqs}: a step "
            "computes a token of every row at least"
        )
    own = {"max_num_seqs": seqs}
    usual = USUAL_STEP_TOKENS * (1 + (tier.engine_kwargs.get("performance_mode") == "throughput"))
    if tokens is None and seqs > usual:
        whole = tier.engine_kwargs.get("enable_chunked_prefill") is False  # a step takes a prompt as a whole
        own["max_num_batched_tokens"] = max(seqs, tier.context_limit or 0) if whole else seqs
    return tier.model_copy(update={"engine_kwargs": {**tier.engine_kwargs, **own}})


def pieces_at_once(tier: VllmTierConfig) -> int:
    """How many pieces an engine has at a time: a little more than it takes."""
    seqs = int(tier.engine_kwargs.get("max_num_seqs") or MOST_SEQS)
    return max(8, math.ceil(1.25 * seqs / BATCH_ROWS))


@contextmanager
def _unremarked() -> Iterator[None]:
    """What Ray and vLLM remark of themselves while a stage is built is nothing that the caller could change."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)


@_unremarked()
def answered_by_vllm(rows: Any, tier: VllmTierConfig, config: GraphConfig, *, alone: bool = False) -> Any:
    """Add the columns `reply` and `seconds` to a dataset of rows; its engines are started when it is run.

    A piece is a batch of the stage, whatever its size: the stage's own batches would wait for more rows, and with a
    budget none come before these have ended. `alone`: one piece at a time.
    """
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    model = resolve_weights(tier.weights, config.state_folder)
    loaded_files(tier, model, config.state_folder).check()
    settings = llm_config(tier, model)
    engine = dict(settings.get_engine_config().engine_kwargs)
    backend, env = worker_place(tier)
    engine.setdefault("distributed_executor_backend", backend)
    concurrency = 1 if alone else pieces_at_once(tier)
    replicas = tier.scaling.max_replicas
    placement = tier.placement_bundles or ([{"CPU": 0.5}] if tier.accelerator == "cpu" else None)
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=model,
            engine_kwargs=engine,
            batch_size=BATCH_ROWS,
            max_concurrent_batches=concurrency,
            concurrency=(1, replicas),
            accelerator_type=tier.accelerator_type,
            runtime_env={"env_vars": env | dict(tier.env)},
            placement_group_config=None if placement is None else {"bundles": placement},
            should_continue_on_error=True,
            log_engine_metrics=False,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        ),
        preprocess=engine_input,
    )
    processor.postprocess = partial(engine_output, tier.name)
    for stage in processor.stages.values():
        stage.map_batches_kwargs["max_task_retries"] = TRIES_OF_A_PIECE
    prompts = rows.map_batches(
        PromptActor,
        fn_constructor_args=(tier, model),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.5,
        max_task_retries=TRIES_OF_A_PIECE,
    )
    answered = prompts.map(processor.preprocess)
    for stage in processor.stages.values():
        given = stage.get_dataset_map_batches_kwargs(BATCH_ROWS, processor.DATA_COLUMN) | {"batch_size": None}
        answered = answered.map_batches_internal(stage.fn, **given)
    return answered.map(processor.postprocess)


class PromptActor:
    """Makes token ids and sampling parameters of rows' requests, as vLLM's server does."""

    def __init__(self, tier: VllmTierConfig, model: str) -> None:
        from transformers import AutoTokenizer

        self.tier = tier
        given = tier.engine_kwargs
        self.tokenizer = AutoTokenizer.from_pretrained(
            given.get("tokenizer") or model,
            trust_remote_code=bool(given.get("trust_remote_code")),
            revision=given.get("tokenizer_revision") or given.get("revision") or "main",
        )
        self.defaults, self.ends = generation_defaults(model, given, self.tokenizer.eos_token_id)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        made = [self._prompt(row["body"], row["call"]) for row in rows]
        return pa.table(
            {name: table.column(name) for name in KEPT_COLUMNS}
            | {name: [one[name] for one in made] for name in ("tokenized_prompt", "asked", "__inference_error__")}
        )

    def _prompt(self, body: str, call: str = "") -> dict[str, Any]:
        nothing: dict[str, Any] = {"tokenized_prompt": [0], "asked": "{}", "__inference_error__": ""}
        try:
            asked = tier_body(self.tier, body, call)
            if unknown := sorted(asked.keys() - SAMPLING - UNTOLD):
                return nothing | _refused(f"{unknown[0]} is not taken in passes over the data")
            ids = self.tokenizer.apply_chat_template(
                [_flat(message) for message in asked["messages"]],
                tokenize=True,
                add_generation_prompt=asked.get("add_generation_prompt", True),
                continue_final_message=asked.get("continue_final_message", False),
                return_dict=False,
                **(asked.get("chat_template_kwargs") or {}),
            )
        except EngineError as error:
            return nothing | _refused(str(error))
        except Exception as error:  # noqa: BLE001 (a template refuses a conversation in its own way)
            return nothing | _refused(f"the chat template refuses the row ({type(error).__name__}: {error})")
        limit = self.tier.context_limit
        room = None if limit is None else limit - len(ids)
        if room is not None and room < 1:
            return nothing | _refused(f"maximum context length is {limit} tokens, the prompt has {len(ids)}")
        most = min(n for n in (asked["max_tokens"], room, self.defaults.get("max_tokens")) if n is not None)
        own = {name: value for name, value in self.defaults.items() if name != "max_tokens"}
        params = own | {name: value for name, value in asked.items() if name in SAMPLING and value is not None}
        top, reads = int(asked.get("top_logprobs") or 0), asked.get("prompt_logprobs")
        params |= {"max_tokens": most, "logprobs": top} | structured(asked.get("response_format"))
        params |= {} if reads is None else {"prompt_logprobs": reads}
        told = {"ends": self.ends, "max_tokens": most, "top": top} | ({} if reads is None else {"prompt": ids})
        return nothing | {"tokenized_prompt": list(ids), "asked": json.dumps({"params": params, "told": told})}


def structured(response_format: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sampling parameter that a request's `response_format` is to vLLM; a schema as text: no columns of it."""
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return {"structured_outputs": {"json": json.dumps(schema)}}
        case {"type": "json_object"}:
            return {"structured_outputs": {"json_object": True}}
    return {}


def engine_input(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that the stage asks for; `told` is what its output is read by."""
    asked = json.loads(row["asked"])
    return {"sampling_params": asked.get("params", {}), "told": json.dumps(asked.get("told"))}


def engine_output(tier: str, row: dict[str, Any]) -> dict[str, Any]:
    """What the stage gave, as the row's columns with the reply that the served engine would give."""
    data = row["__data"]
    kept = {name: data[name] for name in KEPT_COLUMNS}
    if error := data.get("__inference_error__"):
        reply = json.loads(error) if error.startswith("{") else error_reply(error, _status_of(error))
        return kept | {"reply": json.dumps(reply), "seconds": 0.0}
    told = json.loads(data["told"])
    reply = completion_reply(tier, data, told)
    return kept | {"reply": json.dumps(reply), "seconds": engine_seconds(data)}


def generation_defaults(model: str, given: Mapping[str, Any], eos: int | None) -> tuple[dict[str, Any], list[int]]:
    """The sampling defaults that vLLM's server takes from a model's `generation_config`, and what ends an answer."""
    from transformers import GenerationConfig

    source = given.get("generation_config", "auto")
    try:
        of_model = source in ("auto", "vllm")
        revision = (given.get("revision") or "main") if of_model else "main"
        own = GenerationConfig.from_pretrained(model if of_model else source, revision=revision)
        config = own.to_diff_dict()
    except OSError:
        config = {}
    named = config.get("eos_token_id")
    ends = [eos] if named is None else list(named) if isinstance(named, list | tuple) else [named]
    found = ({} if source == "vllm" else config) | dict(given.get("override_generation_config") or {})
    defaults = {name: found[name] for name in GENERATION_DEFAULTS if found.get(name) is not None}
    if found.get("max_new_tokens") is not None:
        defaults["max_tokens"] = int(found["max_new_tokens"])
    return defaults, [int(token) for token in {*ends, eos} if token is not None]


def _flat(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose content is text; vLLM puts a line between the texts of several parts."""
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message)
    if any(part.get("type") != "text" for part in content):
        raise EngineError("parts that are no text are not taken in passes over the data")
    return {**message, "content": "\n".join(part["text"] for part in content)}


def _refused(why: str) -> dict[str, Any]:
    return {"__inference_error__": json.dumps(error_reply(why, 400))}


def _status_of(error: str) -> int:
    return 400 if error.startswith(("ValueError", "VLLMValidationError")) else 500
