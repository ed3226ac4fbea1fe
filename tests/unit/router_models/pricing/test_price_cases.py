"""Hand-computed bills at published prices of three providers.

Rates and rules as on the providers' own pages (addresses beside them), as LiteLLM 1.106 carries them with the same
addresses; `tests/clients/others/test_prices_against_litellm.py` checks these bills against its calculator too.
Prices change: put your own in. Amounts on the right were worked out by hand in the comments, in millionths.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from router_models.pricing.prices import Price, PriceList, Rates, Tariff
from router_models.types import Usage

D = Decimal
STANDARD, BATCH, PRIORITY = Tariff.STANDARD, Tariff.BATCH, Tariff.PRIORITY

# gpt-5.5, developers.openai.com/api/docs/pricing: input 5, cached input 0.50, output 30; prompts over 272,000 tokens
# 10, 1 and 45; batch and flex half of everything; priority 2.5 times.
OPENAI = Price(
    D(5), D(30), D("0.50"), None, D("0.5"), priority_factor=D("2.5"), long_prompts=(272_000, Rates(D(10), D(45), D(1)))
)
# claude-opus-4-6, platform.claude.com/docs/en/about-claude/pricing: input 5, five-minute cache write 6.25, cache read
# 0.50, output 25; batch half of everything.
ANTHROPIC = Price(D(5), D(25), D("0.50"), D("6.25"), D("0.5"))
# gemini-2.5-pro, ai.google.dev/gemini-api/docs/pricing: input 1.25, context caching 0.125, output 10; prompts over
# 200,000 tokens 2.50, 0.25 and 15; batch half of input and output, cached tokens at their usual price;
# priority 1.8 times.
GOOGLE = Price(
    D("1.25"), D(10), D("0.125"), None, D("0.5"),
    batch_cached_factor=D(1), priority_factor=D("1.8"), long_prompts=(200_000, Rates(D("2.50"), D(15), D("0.25"))),
)  # fmt: skip


@pytest.mark.parametrize(
    ("price", "usage", "tariff", "parts", "usd"),
    [
        # 1,234 in, 1,024 of them cached, 567 out: 210 x 5 + 1,024 x 0.50 + 567 x 30 = 1,050 + 512 + 17,010
        (
            OPENAI,
            Usage(1_234, 567, 1_024),
            STANDARD,
            {"input": "0.00105", "cache_read": "0.000512", "output": "0.01701"},
            "0.018572",
        ),
        # the same in a batch: each part halved
        (
            OPENAI,
            Usage(1_234, 567, 1_024),
            BATCH,
            {"input": "0.000525", "cache_read": "0.000256", "output": "0.008505"},
            "0.009286",
        ),
        # the same with priority: 2,625 + 1,280 + 42,525
        (
            OPENAI,
            Usage(1_234, 567, 1_024),
            PRIORITY,
            {"input": "0.002625", "cache_read": "0.00128", "output": "0.042525"},
            "0.04643",
        ),
        # 272,000 in is not yet long: 272,000 x 5 + 10 x 30 = 1,360,000 + 300
        (OPENAI, Usage(272_000, 10), STANDARD, {"input": "1.36", "output": "0.0003"}, "1.3603"),
        # one token more is, and all of it: 272,001 x 10 + 10 x 45 = 2,720,010 + 450
        (OPENAI, Usage(272_001, 10), STANDARD, {"input": "2.72001", "output": "0.00045"}, "2.72046"),
        # cached tokens count towards the length: 1 x 10 + 272,000 x 1, halved in a batch
        (OPENAI, Usage(272_001, 0, 272_000), BATCH, {"input": "0.000005", "cache_read": "0.136"}, "0.136005"),
        # first turn writes 10,000 of 10,050 to the cache: 50 x 5 + 10,000 x 6.25 + 300 x 25 = 250 + 62,500 + 7,500
        (
            ANTHROPIC,
            Usage(10_050, 300, 0, 10_000),
            STANDARD,
            {"input": "0.00025", "cache_write": "0.0625", "output": "0.0075"},
            "0.07025",
        ),
        # second turn reads them and writes 350 more: 70 x 5 + 10,000 x 0.50 + 350 x 6.25 + 111 x 25
        #   = 350 + 5,000 + 2,187.5 + 2,775
        (
            ANTHROPIC,
            Usage(10_420, 111, 10_000, 350),
            STANDARD,
            {"input": "0.00035", "cache_read": "0.005", "cache_write": "0.0021875", "output": "0.002775"},
            "0.0103125",
        ),
        # the same in a batch
        (
            ANTHROPIC,
            Usage(10_420, 111, 10_000, 350),
            BATCH,
            {"input": "0.000175", "cache_read": "0.0025", "cache_write": "0.00109375", "output": "0.0013875"},
            "0.00515625",
        ),
        # no tariff of its own for priority: the standard one
        (ANTHROPIC, Usage(1, 1), PRIORITY, {"input": "0.000005", "output": "0.000025"}, "0.00003"),
        # 133,333 in, 100,001 cached, 7 out: 33,332 x 1.25 + 100,001 x 0.125 + 7 x 10 = 41,665 + 12,500.125 + 70
        (
            GOOGLE,
            Usage(133_333, 7, 100_001),
            STANDARD,
            {"input": "0.041665", "cache_read": "0.012500125", "output": "0.00007"},
            "0.054235125",
        ),
        # in a batch cached tokens keep their price: 20,832.5 + 12,500.125 + 35
        (
            GOOGLE,
            Usage(133_333, 7, 100_001),
            BATCH,
            {"input": "0.0208325", "cache_read": "0.012500125", "output": "0.000035"},
            "0.033367625",
        ),
        # 333,333 in, 300,001 cached, 7 out, over 200,000: 33,332 x 2.50 + 300,001 x 0.25 + 7 x 15
        #   = 83,330 + 75,000.25 + 105
        (
            GOOGLE,
            Usage(333_333, 7, 300_001),
            STANDARD,
            {"input": "0.08333", "cache_read": "0.07500025", "output": "0.000105"},
            "0.15843525",
        ),
        # the same with priority, 1.8 times: 149,994 + 135,000.45 + 189
        (
            GOOGLE,
            Usage(333_333, 7, 300_001),
            PRIORITY,
            {"input": "0.149994", "cache_read": "0.13500045", "output": "0.000189"},
            "0.28518345",
        ),
    ],
)
def test_a_bill_by_hand(price: Price, usage: Usage, tariff: Tariff, parts: dict[str, str], usd: str) -> None:
    assert price.parts(usage, tariff=tariff) == {name: D(amount) for name, amount in parts.items()}
    assert price.cost(usage, tariff=tariff) == D(usd)


def test_own_engines_are_paid_by_the_second() -> None:
    # 2.40 dollars an hour for a replica that serves 16 calls at once: 2.40 / 3600 / 16 = 0.0000416666... a second;
    # 3.6 s of it cost 0.00015 dollars
    price = Price(D(0), D(0), engine_usd_per_s=D("2.40") / 3600 / 16)
    assert price.cost(Usage(1_000, 1_000), 3.6) == D("0.00015")


def test_the_price_in_force_is_charged() -> None:
    cut = datetime(2025, 6, 10, tzinfo=UTC)
    prices = PriceList(Price(D(10), D(40)), ((cut, Price(D(2), D(8))),))
    usage = Usage(1_000, 1_000)
    assert prices.at(datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC)).cost(usage) == D("0.05")
    assert prices.at(cut).cost(usage) == D("0.01")
