"""Hand-computed bills in the price structures of three providers.

The rates are made-up examples in those structures, not read from a price page: do not cite them. What is checked is
the arithmetic of each structure, to the last digit. Amounts on the right were worked out by hand in the comments.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from router_models.pricing import Price, PriceList
from router_models.types import Usage

D = Decimal

# As openai.com/api/pricing is built: input 2.50, cached input 1.25 (half), output 10.00; batch: half.
OPENAI = Price(D("2.50"), D("10.00"), D("1.25"), batch_factor=D("0.5"))
# As anthropic.com/pricing is built: input 3, 5-minute cache write 3.75 (1.25 x), cache read 0.30 (0.1 x),
# output 15; Batch: half.
ANTHROPIC = Price(D("3"), D("15"), D("0.30"), D("3.75"), D("0.5"))
# As ai.google.dev/gemini-api/docs/pricing is built: input 0.30, context caching 0.075, output 2.50; Batch: half.
GOOGLE = Price(D("0.30"), D("2.50"), D("0.075"), batch_factor=D("0.5"))


@pytest.mark.parametrize(
    ("price", "usage", "batch", "parts", "usd"),
    [
        # 1,234 in (1,024 of them cached), 567 out: 210 x 2.50 + 1,024 x 1.25 + 567 x 10 = 525 + 1,280 + 5,670
        (
            OPENAI,
            Usage(1_234, 567, 1_024),
            False,
            {"input": "0.000525", "cache_read": "0.00128", "output": "0.00567"},
            "0.007475",
        ),
        # the same in a batch: each part halved
        (
            OPENAI,
            Usage(1_234, 567, 1_024),
            True,
            {"input": "0.0002625", "cache_read": "0.00064", "output": "0.002835"},
            "0.0037375",
        ),
        # first turn writes 10,000 of 10,050 to the cache: 50 x 3 + 10,000 x 3.75 + 300 x 15 = 150 + 37,500 + 4,500
        (
            ANTHROPIC,
            Usage(10_050, 300, 0, 10_000),
            False,
            {"input": "0.00015", "cache_write": "0.0375", "output": "0.0045"},
            "0.04215",
        ),
        # second turn reads them and writes 350 more: 70 x 3 + 10,000 x 0.30 + 350 x 3.75 + 111 x 15
        #   = 210 + 3,000 + 1,312.5 + 1,665
        (
            ANTHROPIC,
            Usage(10_420, 111, 10_000, 350),
            False,
            {"input": "0.00021", "cache_read": "0.003", "cache_write": "0.0013125", "output": "0.001665"},
            "0.0061875",
        ),
        # the same in a batch
        (
            ANTHROPIC,
            Usage(10_420, 111, 10_000, 350),
            True,
            {"input": "0.000105", "cache_read": "0.0015", "cache_write": "0.00065625", "output": "0.0008325"},
            "0.00309375",
        ),
        # 333,333 in (300,001 cached), 7 out: 33,332 x 0.30 + 300,001 x 0.075 + 7 x 2.50 = 9,999.6 + 22,500.075 + 17.5
        (
            GOOGLE,
            Usage(333_333, 7, 300_001),
            False,
            {"input": "0.0099996", "cache_read": "0.022500075", "output": "0.0000175"},
            "0.032517175",
        ),
        # one token each way in a batch: 0.15 + 1.25 millionths
        (GOOGLE, Usage(1, 1), True, {"input": "0.00000015", "output": "0.00000125"}, "0.0000014"),
    ],
)
def test_a_bill_by_hand(price: Price, usage: Usage, batch: bool, parts: dict[str, str], usd: str) -> None:
    assert price.parts(usage, batch=batch) == {name: D(amount) for name, amount in parts.items()}
    assert price.cost(usage, batch=batch) == D(usd)


def test_own_engines_are_paid_by_the_second() -> None:
    # 2.40 dollars an hour for a replica that serves 16 calls at once: 2.40 / 3600 / 16 = 0.0000416666... a second;
    # 3.6 s of it cost 0.00015 dollars
    price = Price(D(0), D(0), engine_usd_per_s=D("2.40") / 3600 / 16)
    assert price.cost(Usage(1_000, 1_000), 3.6) == D("0.00015")


def test_the_price_in_force_is_charged() -> None:
    cut = datetime(2025, 6, 10, tzinfo=UTC)
    prices = PriceList(Price(D(10), D(40)), ((cut, Price(D(2), D(8))),))  # openai.com, o3: 80 % off on 2025-06-10
    usage = Usage(1_000, 1_000)
    assert prices.at(datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC)).cost(usage) == D("0.05")
    assert prices.at(cut).cost(usage) == D("0.01")
