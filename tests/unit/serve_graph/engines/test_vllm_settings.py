"""A vLLM tier's configuration in the words of ray.serve.llm; importing that imports Ray: inside, never above."""

from decimal import Decimal
from typing import Any, ClassVar

from router_models.types import Query
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import VllmTierConfig

QUERY = Query.from_prompt("why?")
PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
REPLY = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}


async def test_tier_with_an_adapter_asks_for_it_by_rays_name() -> None:
    from serve_graph.cluster.tier_client import HandleEngine

    class Multiplexed(FakeHandle):
        chosen: ClassVar[list[dict[str, Any]]] = []

        def options(self, **options: Any) -> "FakeHandle":
            self.chosen.append(options)
            return self

    handle = Multiplexed(REPLY)
    await HandleEngine(handle, lora_tier()).generate(QUERY)  # type: ignore[arg-type]
    assert handle.chosen == [{"multiplexed_model_id": "cheap:support-v3"}]
    assert handle.asked[0][0]["model"] == "cheap:support-v3"


def lora_tier(loading_path: str = "s3://bucket/adapters/") -> VllmTierConfig:
    lora = {
        "loading_path": loading_path,
        "adapter": "support-v3",
        "max_adapters_per_replica": 4,
        "max_rank": 32,
    }
    tier = {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": {"hub": "a/b"}, "lora": lora}
    return VllmTierConfig.model_validate(tier)


def test_adapter_turns_vllms_lora_on_and_fills_rays_section() -> None:
    from serve_graph.engines.vllm.settings import llm_settings

    made = llm_settings(lora_tier(), "a/b")
    assert made["lora_config"] == {
        "dynamic_lora_loading_path": "s3://bucket/adapters",
        "max_num_adapters_per_replica": 4,
        "download_timeout_s": 30.0,
        "max_download_tries": 10,
    }
    assert (made["engine_kwargs"]["enable_lora"], made["engine_kwargs"]["max_lora_rank"]) == (True, 32)
    assert llm_settings(lora_tier("/mnt/adapters"), "a/b")["lora_config"]["dynamic_lora_loading_path"] is None
    plain = llm_settings(lora_tier().model_copy(update={"lora": None}), "a/b")
    assert plain["lora_config"] is None
    assert "enable_lora" not in plain["engine_kwargs"]


def test_a_hub_revision_reaches_vllm_for_weights_and_tokenizer() -> None:
    from serve_graph.engines.vllm.settings import llm_settings

    tier = {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": {"hub": "a/b@v2"}}
    asked = llm_settings(VllmTierConfig.model_validate(tier), "a/b")["engine_kwargs"]
    assert (asked["revision"], asked["tokenizer_revision"]) == ("v2", "v2")
    assert "revision" not in llm_settings(lora_tier(), "a/b")["engine_kwargs"]


def test_a_cpu_worker_that_speculates_or_applies_adapters_is_mended_and_no_other() -> None:
    from serve_graph.engines.vllm.settings import MENDED_ADAPTERS, MENDED_SAMPLING, llm_settings

    def extension(**fields: Any) -> str | None:
        tier = {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": {"hub": "a/b"}, **fields}
        made = llm_settings(VllmTierConfig.model_validate(tier), "a/b")["engine_kwargs"]
        return made.get("worker_extension_cls")  # type: ignore[no-any-return]

    ngram = {"method": "ngram", "num_speculative_tokens": 4}
    assert extension(accelerator="cpu", speculation=ngram) == MENDED_SAMPLING
    assert extension(accelerator="cpu") is None
    assert extension(accelerator="gpu", speculation=ngram) is None
    lora = {"loading_path": "s3://adapters", "adapter": "tuned"}
    assert extension(accelerator="cpu", lora=lora) == MENDED_ADAPTERS
    assert extension(accelerator="cpu", lora=lora, speculation=ngram) == MENDED_ADAPTERS
    assert extension(accelerator="gpu", lora=lora) is None
    own = {"worker_extension_cls": "mine.Own"}
    assert extension(accelerator="cpu", speculation=ngram, engine_kwargs=own) == "mine.Own"
