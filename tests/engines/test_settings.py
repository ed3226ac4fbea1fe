"""What Ray makes of a vLLM tier's settings. Here rather than among the unit tests: Ray's own class imports vLLM."""

from serve_graph.config.tiers import VllmTierConfig
from serve_graph.engines.vllm.settings import llm_config


def test_ray_takes_the_adapter_settings_as_its_own() -> None:
    tier = VllmTierConfig.model_validate(
        {
            "engine": "vllm",
            "name": "cheap",
            "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
            "weights": {"hub": "a/b"},
            "lora": {"loading_path": "s3://bucket/adapters/", "adapter": "support-v3", "max_adapters_per_replica": 4},
        }
    )
    made = llm_config(tier, "a/b")
    assert made.lora_config.dynamic_lora_loading_path == "s3://bucket/adapters"
    assert made.multiplex_config().max_num_models_per_replica == 4
