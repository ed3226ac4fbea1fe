"""What a tier's own sections accept and refuse; and that the page about tiers tells the truth."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.policy.bindings import tier_binds

PAGE = Path(__file__).parents[5] / "docs" / "guides" / "tiers.md"
PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
HOSTED = {"name": "frontier", "engine": "openai", "price": PRICE}
TWO = [{"name": "east", "model": "m", "base_url": "http://e/v1"}, {"name": "west", "model": "m2", "weight": 3}]


def context(**fields: Any) -> GraphConfig:
    return GraphConfig.model_validate({"tiers": [HOSTED | fields]})


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        context(**fields)
    return str(caught.value)


def hosted(**fields: Any) -> HostedTierConfig:
    tier = context(**fields).tier("frontier")
    assert isinstance(tier, HostedTierConfig)
    return tier


def blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split("\n")[1].strip())
def test_every_tier_on_the_page_is_a_valid_tier(block: str) -> None:
    shown = yaml.safe_load(block)
    section = shown if isinstance(shown, dict) else {"tiers": shown}
    tiers = section.get("tiers", [HOSTED | {"model": "m"}])
    GraphConfig.model_validate({"tiers": tiers, **section, "policy": {"safe_tier": tiers[0]["name"]}})


def test_the_page_shows_every_kind_of_tier() -> None:
    assert len(blocks()) >= 4


def test_one_api_is_a_deployment_named_after_its_tier() -> None:
    [api] = hosted(model="m", base_url="http://x/v1", headers={"a": "b"}).apis
    assert (api.name, api.model, api.base_url, api.headers, api.weight) == (
        "frontier",
        "m",
        "http://x/v1",
        {"a": "b"},
        1,
    )


def test_several_apis_keep_their_order_and_weights() -> None:
    assert [(api.name, api.weight) for api in hosted(deployments=TWO).apis] == [("east", 1), ("west", 3)]


def test_a_hosted_tier_needs_a_model_or_deployments() -> None:
    assert "needs `model`, or `deployments`" in refusal()


def test_an_api_beside_deployments_is_refused() -> None:
    assert "must set base_url, model in each deployment" in refusal(model="m", base_url="http://x", deployments=TWO)


def test_two_deployments_of_one_name_are_refused() -> None:
    assert "deployment names must differ" in refusal(deployments=[TWO[0], TWO[0]])


def test_spares_alone_are_refused() -> None:
    assert "weight above 0" in refusal(deployments=[{**TWO[0], "weight": 0}])


@pytest.mark.parametrize(
    "failover",
    [{"max_attempts": 0}, {"max_fallbacks": -1}, {"backoff_s": 0}, {"cooldown_s": "inf"}, {"retries": 3}],
    ids=str,
)
def test_failover_out_of_range_is_refused(failover: dict[str, Any]) -> None:
    assert "failover" in refusal(model="m", failover=failover)


@pytest.mark.parametrize("admission", [{"max_in_flight": 0}, {"max_queued": -1}, {"queue": 3}], ids=str)
def test_admission_out_of_range_is_refused(admission: dict[str, Any]) -> None:
    assert "admission" in refusal(model="m", admission=admission)


def lora_graph(loading_path: str, state: Path = Path(".serve_graph")) -> GraphConfig:
    tier = {"name": "frontier", "engine": "vllm", "price": PRICE, "weights": {"hub": "a/b"}}
    lora = {"loading_path": loading_path, "adapter": "x"}
    return GraphConfig.model_validate({"tiers": [tier | {"lora": lora}], "state_folder": str(state)})


@pytest.mark.parametrize("path", ["loras", "../loras", "http://store/loras", ""])
def test_adapters_come_from_where_every_replica_finds_them(path: str) -> None:
    with pytest.raises(ValidationError, match="must be s3://"):
        lora_graph(path)


def test_an_adapter_on_disk_binds_the_certificate_by_its_bytes(tmp_path: Path) -> None:
    adapter = tmp_path / "loras" / "x"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    context = lora_graph(f"{tmp_path}/loras/", tmp_path)
    before = tier_binds(context)
    assert tier_binds(context) == before
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    assert {name for name, bind in tier_binds(context).items() if bind != before[name]} == {"frontier.weights"}
    assert tier_binds(lora_graph("s3://bucket/a")) != tier_binds(lora_graph("s3://bucket/b"))


def test_certificate_of_a_single_api_is_bound_to_model_url_and_decoding() -> None:
    binds = tier_binds(context(model="gpt-4o", base_url="https://api.openai.com/v1"))
    from router_models.risk_control.certificates.binding import binding_hashes

    engine = {"engine": "openai", "base_url": "https://api.openai.com/v1"}
    decoding = {"max_tokens": 256}
    things = {"frontier.weights": "gpt-4o", "frontier.engine": engine, "frontier.decoding": decoding}
    assert binds == binding_hashes(things)


def test_certificate_is_bound_to_every_model_and_url_and_to_no_weight() -> None:
    binds = tier_binds(context(deployments=TWO))
    moved = tier_binds(context(deployments=[TWO[1] | {"weight": 1}, TWO[0] | {"weight": 9}]))
    assert moved == binds
    assert tier_binds(context(deployments=[TWO[0], TWO[1] | {"model": "m3"}])) != binds
    assert tier_binds(context(deployments=[TWO[0] | {"base_url": "http://f/v1"}, TWO[1]])) != binds


@pytest.mark.parametrize("url", ["http://api.example.com/v1", "HTTP://8.8.8.8/v1", "http://api.example.com./v1"])
def test_prompts_and_keys_go_to_no_public_address_unencrypted_unless_told_so(url: str) -> None:
    assert "would send prompts and the key unencrypted" in refusal(model="m", base_url=url)
    assert hosted(model="m", base_url=url, insecure_http=True).apis[0].base_url == url
    assert "unencrypted" in refusal(deployments=[{"name": "a", "model": "m", "base_url": url}])


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1", "http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]/v1",
        "http://10.1.2.3/v1", "http://vllm/v1", "http://vllm.default.svc/v1", "http://vllm.default.svc.cluster.local/v1",
    ],
)  # fmt: skip
def test_private_networks_may_go_without(url: str) -> None:
    assert hosted(model="m", base_url=url).apis[0].base_url == url
