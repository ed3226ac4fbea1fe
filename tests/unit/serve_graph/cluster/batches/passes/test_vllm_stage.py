"""What a tier of vLLM is told in a pass, and what its output becomes: as the served one. Without vLLM."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router_models.estimators.asked_signals import ASKED_SIGNALS
from router_models.estimators.questions.terms import AskedSettings
from router_models.types import Completion, Query
from serve_graph.cluster.batches.passes.plan import promise_held
from serve_graph.cluster.batches.passes.vllm_stage import (
    PromptActor,
    engine_input,
    engine_output,
    generation_defaults,
    passes_faults,
    pieces_at_once,
    with_max_num_seqs,
    worker_place,
)
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.errors import ConfigError
from serve_graph.protocol.requests import engine_body
from serve_graph.protocol.responses import completion_of

transformers = pytest.importorskip("transformers")


def tier(**more: Any) -> VllmTierConfig:
    given = {
        "name": "big", "engine": "vllm", "weights": {"hub": "org/model"}, "default_max_tokens": 50,
        "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}, "decoding": {"temperature": 0.0},
        "engine_kwargs": {"max_model_len": 40},
    }  # fmt: skip
    return VllmTierConfig.model_validate(given | more)


def actor(config: VllmTierConfig, defaults: dict[str, Any] | None = None) -> PromptActor:
    """An actor whose template makes a token of every character."""
    made = object.__new__(PromptActor)

    def template(messages: list[dict[str, Any]], **_: Any) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]]

    made.tier, made.defaults, made.ends = config, defaults or {}, [7]
    made.tokenizer = SimpleNamespace(apply_chat_template=template)
    return made


def prompt(config: VllmTierConfig, defaults: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    asked = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]} | body
    return actor(config, defaults)._prompt(json.dumps(asked))


def test_sampling_is_the_models_own_under_the_tiers_under_the_rows() -> None:
    row = prompt(tier(), {"temperature": 0.7, "top_p": 0.8, "max_tokens": 20})
    sent = engine_input(row)["sampling_params"]
    assert sent == {"temperature": 0.0, "top_p": 0.8, "max_tokens": 20, "logprobs": 0}
    assert row["tokenized_prompt"] == [104, 101, 108, 108, 111]
    sent = engine_input(prompt(tier(), max_tokens=3))["sampling_params"]
    assert sent == {"temperature": 0.0, "max_tokens": 3, "logprobs": 0}
    assert engine_input(prompt(tier()))["sampling_params"]["max_tokens"] == 35  # the room that is left


ASKED = {
    "p_true": {"max_tokens": 1, "temperature": 0.0, "logprobs": 20},
    "agreement": {"max_tokens": 35, "temperature": 0.7, "seed": 1, "logprobs": 0},
    "last_tier_likelihood": {"max_tokens": 1, "temperature": 0.0, "logprobs": 0, "prompt_logprobs": 0},
}


@pytest.mark.parametrize("name", ASKED)
def test_calls_about_an_answer_are_put_as_the_served_engine_gets_them(name: str) -> None:
    """A token of every character: 40 of context, five of the question."""
    query, config = (
        Query.from_prompt("hello"),
        tier(engine_kwargs={"max_model_len": 40 if name == "agreement" else 999}),
    )
    asked = ASKED_SIGNALS[name].calls(query, Completion("yes"), AskedSettings())[0]
    body = engine_body(asked, "big", {"temperature": 0.0, "max_tokens": 50}, "vllm")
    made, seen = actor(config), dict[str, Any]()
    own = made.tokenizer.apply_chat_template
    made.tokenizer.apply_chat_template = lambda messages, **more: seen.update(more) or own(messages)
    row = made._prompt("", json.dumps([0, dict(body)]))
    assert row["__inference_error__"] == ""
    assert engine_input(row)["sampling_params"] == ASKED[name]
    continues = name == "last_tier_likelihood"
    assert (seen["continue_final_message"], seen["add_generation_prompt"]) == (continues, not continues)


def test_what_an_engine_says_of_an_answer_is_read_as_of_the_served_one() -> None:
    top = {5: {"logprob": -0.1, "decoded_token": "Yes"}, 6: {"logprob": -2.5, "decoded_token": "No"}}
    data = {
        "key": "k", "body": "b", "story": "s", "call": '[0, {}]', "__inference_error__": "", "generated_text": "Yes",
        "generated_tokens": [5], "num_input_tokens": 4, "logprobs": [top],
        "prompt_logprobs": [None, {8: {"logprob": -9.0, "decoded_token": "hello"}},
                            {9: {"logprob": -0.5, "decoded_token": "ye"}, 3: {"logprob": -0.1, "decoded_token": "x"}},
                            {1: None, 7: {"logprob": -0.25, "decoded_token": "s"}}],
        "told": json.dumps({"ends": [], "max_tokens": 1, "top": 20, "prompt": [1, 8, 9, 7]}),
    }  # fmt: skip
    row = engine_output("big", {"__data": data})
    assert (row["key"], row["call"]) == ("k", "[0, {}]")
    found, settings = completion_of(json.loads(row["reply"]), 0.0), AskedSettings()
    p_true = ASKED_SIGNALS["p_true"].read(Completion("yes"), [found], settings)
    assert p_true == pytest.approx(math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.5)))
    likelihood = ASKED_SIGNALS["last_tier_likelihood"].read(Completion("yes"), [found], settings)
    assert likelihood == pytest.approx(-0.375)


def test_a_schema_is_kept_to() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    sent = engine_input(prompt(tier(), response_format=schema))["sampling_params"]
    assert sent["structured_outputs"] == {"json": '{"type": "object"}'}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": [{"role": "user", "content": "x" * 40}]}, "maximum context length is 40 tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools is not taken"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}]},
            "parts that are no text",
        ),
        ({"audio": {"voice": "x", "format": "mp3"}}, "audio is not supported"),
    ],
)
def test_a_row_that_cannot_be_asked_is_refused_alone(body: dict[str, Any], said: str) -> None:
    row = prompt(tier(), **body)
    reply = json.loads(
        engine_output("big", {"__data": {"key": "k", "body": "b", "story": "", "call": "", **row}})["reply"]
    )
    assert reply["error"]["code"] == 400
    assert said in reply["error"]["message"]


@pytest.mark.parametrize(
    ("ids", "finish"), [([5, 6], "stop"), ([5, 6, 7], "stop"), ([5, 6, 9], "length"), ([5, 6, 9, 9], "length")]
)
def test_the_engines_output_is_the_served_reply(ids: list[int], finish: str) -> None:
    data = {
        "key": "k", "body": "b", "story": "s", "call": "", "__inference_error__": "", "generated_text": "so it is",
        "generated_tokens": ids, "num_input_tokens": 11, "time_taken_llm": 9.0,
        "metrics": {"scheduled_ts": 2.0, "last_token_ts": 2.5},
        "logprobs": [{token: {"logprob": -0.5, "decoded_token": "t"}} for token in ids],
        "told": json.dumps({"ends": [7], "max_tokens": 3}),
    }  # fmt: skip
    row = engine_output("big", {"__data": data})
    reply = json.loads(row["reply"])
    choice = reply["choices"][0]
    assert (row["key"], row["story"], row["seconds"]) == ("k", "s", 0.5)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so it is", finish)
    assert [token["logprob"] for token in choice["logprobs"]["content"]] == [-0.5] * len(ids)
    assert reply["usage"] == {
        "prompt_tokens": 11, "completion_tokens": len(ids), "total_tokens": 11 + len(ids),
    }  # fmt: skip


def test_an_engine_that_fails_on_a_row_is_the_tiers_failure() -> None:
    data = {"key": "k", "body": "b", "story": "", "call": "", "__inference_error__": "RuntimeError: out of memory"}
    reply = json.loads(engine_output("big", {"__data": data})["reply"])
    assert reply["error"]["code"] == 500


def test_generation_defaults_are_those_that_vllm_takes(tmp_path: Path) -> None:
    own = {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1, "max_new_tokens": 99, "eos_token_id": [3, 4]}
    (tmp_path / "generation_config.json").write_text(json.dumps(own | {"do_sample": True}))
    found, ends = generation_defaults(str(tmp_path), {}, 5)
    assert found == {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1, "max_tokens": 99}
    assert sorted(ends) == [3, 4, 5]
    assert generation_defaults(str(tmp_path), {"generation_config": "vllm"}, 5)[0] == {}
    over = {"override_generation_config": {"temperature": 0.1}}
    assert generation_defaults(str(tmp_path), over, 5)[0]["temperature"] == 0.1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"engine_kwargs": {"reasoning_parser": "qwen3"}}, "reasoning_parser"),
        ({"decoding": {"guided_regex": "a"}}, "decodes with guided_regex"),
        ({"lora": {"adapter": "a", "loading_path": "s3://x"}}, "LoRA"),
    ],
)
def test_what_passes_cannot_do_as_it_is_served_is_said(more: dict[str, Any], said: str) -> None:
    assert said in str(passes_faults(tier(**more)))
    assert passes_faults(tier()) is None


def test_an_engine_of_a_pass_may_compute_more_rows_at_a_time_than_served() -> None:
    served = tier(engine_kwargs={"max_model_len": 40, "max_num_seqs": 16})
    assert with_max_num_seqs(served, None) is served
    wide = with_max_num_seqs(served, 2048)
    assert wide.engine_kwargs == {"max_model_len": 40, "max_num_seqs": 2048}
    assert served.engine_kwargs["max_num_seqs"] == 16
    assert (pieces_at_once(served), pieces_at_once(wide)) == (8, 40)
    narrow = tier(engine_kwargs={"max_num_batched_tokens": 512})
    with pytest.raises(ConfigError, match="big has max_num_batched_tokens 512, which is less than --max-num-seqs 513"):
        with_max_num_seqs(narrow, 513)
    assert with_max_num_seqs(narrow, 512).engine_kwargs["max_num_seqs"] == 512


@pytest.mark.parametrize(
    ("given", "seqs", "tokens"),
    [
        ({}, 2048, None),
        ({}, 2049, 2049),
        ({"performance_mode": "throughput"}, 4096, None),
        ({"performance_mode": "throughput"}, 4097, 4097),
        ({"enable_chunked_prefill": False, "max_model_len": 9000}, 4096, 9000),
        ({"max_num_batched_tokens": 8192}, 4096, 8192),
    ],
)
def test_a_step_has_a_token_for_every_row_where_vllms_usual_number_has_not(
    given: dict[str, Any], seqs: int, tokens: int | None
) -> None:
    """vLLM refuses to start an engine otherwise."""
    assert with_max_num_seqs(tier(engine_kwargs=given), seqs).engine_kwargs.get("max_num_batched_tokens") == tokens


def test_a_promise_says_which_steps_have_another_number_of_tokens() -> None:
    said = promise_held(["cheap", "big"], 4096, {"big": 4096})
    assert "Two arguments differ: cheap and big computed up to 4096 rows at a time, not as many as served" in said
    assert "big with max_num_batched_tokens 4096" in said


def test_a_promise_says_which_engines_compute_another_number_of_rows() -> None:
    assert promise_held([], 64) == promise_held([], None)
    said = promise_held(["cheap", "big"], 64)
    assert said.startswith(promise_held([], None))
    assert "cheap and big computed up to 64 rows at a time, not as many as served" in said


CPU = {"accelerator": "cpu", "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}}
WHOLE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({}, ("uni", {})),
        ({"engine_kwargs": {"tensor_parallel_size": 2}}, ("ray", {})),
        (CPU, ("uni", WHOLE)),
        (CPU | {"env": {}}, ("mp", {})),
        (CPU | {"engine_kwargs": {"pipeline_parallel_size": 2}}, ("mp", {})),
    ],
)
def test_one_worker_needs_no_process_of_its_own(more: dict[str, Any], place: tuple[str, dict[str, str]]) -> None:
    assert worker_place(tier(**more)) == place
