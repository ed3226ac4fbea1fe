"""Bills at published prices, compared with those of LiteLLM's calculator.

The prices are those that LiteLLM 1.110 carries, registered with whichever version is installed: a provider who changes
a price, or a model that is withdrawn, says nothing about how a bill is added up.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.pricing.prices import Price, Tariff
from router_models.types import Usage

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # what the package holds, nothing fetched
litellm = pytest.importorskip("litellm", reason="litellm is not installed (the clients extra has it)")
pytestmark = pytest.mark.filterwarnings("ignore")

CASES = Path(__file__).parents[2] / "unit" / "router_models" / "pricing" / "test_price_cases.py"
MODELS = {
    "OPENAI": ("gpt-5.5", "openai"),
    "ANTHROPIC": ("claude-opus-4-6", "anthropic"),
    "GOOGLE": ("gemini/gemini-2.5-pro", "gemini"),
}
IN, OUT, READ, WRITE = (
    "input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost",
)  # fmt: skip
CARRIED: dict[str, dict[str, float]] = {  # dollars a token, in LiteLLM's own names
    "OPENAI": {
        IN: 5e-6, OUT: 3e-5, READ: 5e-7,
        f"{IN}_above_272k_tokens": 1e-5, f"{OUT}_above_272k_tokens": 4.5e-5, f"{READ}_above_272k_tokens": 1e-6,
        f"{IN}_priority": 1.25e-5, f"{OUT}_priority": 7.5e-5, f"{READ}_priority": 1.25e-6,
    },
    "ANTHROPIC": {IN: 5e-6, OUT: 2.5e-5, READ: 5e-7, WRITE: 6.25e-6},
    "GOOGLE": {
        IN: 1.25e-6, OUT: 1e-5, READ: 1.25e-7,
        f"{IN}_above_200k_tokens": 2.5e-6, f"{OUT}_above_200k_tokens": 1.5e-5, f"{READ}_above_200k_tokens": 2.5e-7,
        f"{IN}_priority": 2.25e-6, f"{OUT}_priority": 1.8e-5, f"{READ}_priority": 2.25e-7,
        f"{IN}_above_200k_tokens_priority": 4.5e-6, f"{OUT}_above_200k_tokens_priority": 2.7e-5,
        f"{READ}_above_200k_tokens_priority": 4.5e-7,
    },
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _prices_as_carried() -> None:
    for name, (model, provider) in MODELS.items():
        litellm.register_model({model: {"litellm_provider": provider, "mode": "chat", **CARRIED[name]}})


def published(name: str) -> Price:
    """The price that the hand-computed cases are made with."""
    spec = importlib.util.spec_from_file_location("pricing_cases", CASES)
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    price: Price = getattr(cases, name)
    return price


def theirs(name: str, usage: Usage, **tariff: Any) -> float:
    model, provider = MODELS[name]
    counted = litellm.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
    )
    return sum(litellm.cost_per_token(model=model, custom_llm_provider=provider, usage_object=counted, **tariff))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 400_000),
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["", "priority"]),
)
def test_a_bill_is_what_litellm_makes_it(
    name: str, prompt: int, answer: int, read: float, written: float, tariff: str
) -> None:
    cached = int(prompt * read)
    wrote = int((prompt - cached) * written) if name == "ANTHROPIC" else 0  # nobody else charges writing
    usage = Usage(prompt, answer, cached, wrote)
    # No rate is published for priority by Anthropic (it is sold by contract), nor by OpenAI for long prompts.
    sold = name == "GOOGLE" or (name == "OPENAI" and prompt <= 272_000)
    asked = {"service_tier": "priority"} if tariff and sold else {}
    ours = published(name).cost(usage, tariff=Tariff.PRIORITY if asked else Tariff.STANDARD)
    assert float(ours) == pytest.approx(theirs(name, usage, **asked), rel=1e-9)


def test_a_wrong_price_would_be_noticed() -> None:
    usage = Usage(300_000, 100, 1_000)
    assert float(published("ANTHROPIC").cost(usage)) != pytest.approx(theirs("GOOGLE", usage), rel=1e-3)
