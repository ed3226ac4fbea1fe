import random

import pytest

from serve_graph.access.escalations import EscalationWatch
from serve_graph.config.access import EscalationWatchConfig, KeyConfig

CONFIG = EscalationWatchConfig(window_s=600, min_requests=50, times=3, alpha=1e-4)


def key(name: str, **limits: int) -> KeyConfig:
    return KeyConfig.model_validate({"name": name, "sha256": "0" * 64, **limits})


def watch(**shares: float) -> EscalationWatch:
    made = EscalationWatch(CONFIG)
    for name, share in shares.items():
        for i in range(100):
            made.note(name, i < 100 * share, now=0.0)
    return made


def test_an_attacker_is_refused_and_nobody_else() -> None:
    made = watch(attacker=0.9, one=0.1, two=0.12, three=0.08)
    assert made.refuses(key("attacker"), 1.0) == pytest.approx(599.0)
    assert [made.refuses(key(name), 1.0) for name in ("one", "two", "three")] == [None] * 3
    assert made.caps == 1


def test_a_share_that_chance_explains_is_let_in() -> None:
    made = watch(unlucky=0.35, one=0.1, two=0.1)  # above three times the rest, but not by 1 in 10,000
    assert made.refuses(key("unlucky"), 1.0) is None


@pytest.mark.parametrize("share", [0.05, 0.33, 0.5, 0.8])
def test_an_attacker_stands_out_however_often_others_are_escalated(share: float) -> None:
    made = watch(one=share, two=share)
    for _ in range(500):
        made.note("attacker", True, 0.0)
    assert made.refuses(key("attacker"), 1.0) is not None
    assert made.refuses(key("one"), 1.0) is None


def test_alone_no_key_stands_out() -> None:
    assert watch(only=1.0).refuses(key("only"), 1.0) is None


def test_few_requests_say_nothing() -> None:
    made = watch(one=0.1, two=0.1)
    for _ in range(49):
        made.note("new", True, 0.0)
    assert made.refuses(key("new"), 1.0) is None
    made.note("new", True, 0.0)
    assert made.refuses(key("new"), 1.0) is not None


def test_old_escalations_are_forgotten() -> None:
    made = watch(attacker=0.9, one=0.1)
    assert made.refuses(key("attacker"), 599.0) == pytest.approx(1.0)
    assert made.refuses(key("attacker"), 601.0) is None


def test_an_absolute_cap_holds_for_any_key_that_has_one() -> None:
    made = EscalationWatch(CONFIG)
    for i in range(5):
        made.note("a", True, float(i))
    assert made.refuses(key("a", escalations_per_h=6), 10.0) is None
    assert made.refuses(key("a", escalations_per_h=5), 10.0) == pytest.approx(3590.0)
    assert made.refuses(key("a", escalations_per_h=5), 3601.0) is None  # two of them are over an hour old
    assert made.refuses(key("a"), 10.0) is None


def test_equal_keys_are_hardly_ever_refused() -> None:
    draw = random.Random(7)
    refused = 0
    for _ in range(200):
        made = EscalationWatch(CONFIG)
        for _ in range(300):
            made.note(draw.choice("abc"), draw.random() < 0.2, 0.0)
        refused += any(made.stands_out(name, 1.0) for name in "abc")
    assert refused == 0
