"""Sets left out: what a router learned elsewhere does on them, before and after its fallback, and the page of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS, LengthRouter
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.benchmarks.left_out_sets import SHORTFALL, SHORTFALL_INSIDE, run_left_out
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.run import Destination
from router_models.evaluation.run_all import read_set
from router_models.metrics import apgr, routing_curve

DATA = Path(__file__).parents[4].parent / "shared" / "data"

WORDS = {
    "words": "river mountain capital poem history music language country".split(),
    "sums": "17+4 3*25 81/9 100-64 2^8 5.5*2 12+30 7*6".split(),
    "code": "x=[1]; def f(y): return(y) {'k':2} print(z) a[0]".split(),
}


def outcomes(kind: str, n: int, seed: int, longer_is: float) -> pd.DataFrame:
    """Prompts of one form; the weak tier is right by word, and more (or less) often on longer ones."""
    rng = np.random.default_rng(seed)
    length = rng.integers(3, 40, n)
    texts = [f"{i} " + " ".join(rng.choice(WORDS[kind], k)) for i, k in enumerate(length)]
    first = np.array([text.split()[1] for text in texts])
    p = 0.45 + 0.25 * np.isin(first, WORDS[kind][:3]) + longer_is * (length - 20) / 20
    right = rng.random(n) < np.clip(p, 0.02, 0.98)
    return pd.DataFrame({"prompt": texts, "weak": right, "strong": rng.random(n) < 0.95})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sets; in one of them longer prompts are easier, which misleads whatever learns from it."""
    out = tmp_path / "sets"
    out.mkdir()
    for kind, longer_is in (("words", 0.4), ("sums", -0.35), ("code", -0.3)):
        outcomes(kind, 220, len(kind), longer_is).to_csv(out / f"{kind}.csv", index=False)
    return out


def test_on_no_left_out_set_is_the_served_order_worse_than_length_and_within_sets_it_stays(
    folder: Path, tmp_path: Path
) -> None:
    to = Destination("Made by a test.", tmp_path / "page.md", lambda _: None)
    page, figures = run_left_out(folder, {}, Protocol(("surface",), folds=3), tmp_path / "cache" / "emb", to)
    assert page == (tmp_path / "page.md").read_text()
    outside, inside = figures["outside"], figures["inside"]
    assert [(row["tested"], row["learned"]) for row in outside if row["tested"] == "code"] == [
        ("code", "sums"), ("code", "words"), ("code", "all 2 others"),
    ]  # fmt: skip
    apart = [row for row in outside if row["novel"] > 0.9]
    assert len(apart) >= 4
    assert all(row["over_length"]["value"] >= -SHORTFALL for row in apart)
    assert min(row["before"]["value"] - row["length"]["value"] for row in apart) < -0.1, "one of them was misled"
    assert all(abs(row["change"]["value"]) <= 3 * SHORTFALL_INSIDE for row in inside)
    assert "3 folds" in page
    assert "below prompt length" in page


def test_one_set_alone_and_what_learns_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    to = Destination("", None, lambda _: None)
    with pytest.raises(DataError, match="one learned router family"):
        run_left_out(folder, {}, Protocol(("length",)), tmp_path, to)
    for name in ("sums", "code"):
        (folder / f"{name}.csv").unlink()
    with pytest.raises(DataError, match="one set alone"):
        run_left_out(folder, {}, Protocol(("surface",)), tmp_path, to)


@pytest.mark.full
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared outcomes are not beside this checkout")
@pytest.mark.parametrize("learned", ["routellm_mmlu", "mixed_tasks_9models"])
@pytest.mark.parametrize("family", ["tfidf", "surface-forest", "surface"])
def test_real_prompts_of_another_form_are_ordered_at_least_as_length_orders_them(learned: str, family: str) -> None:
    def rows_of(name: str) -> tuple[OutcomeTable, str, str]:
        table, weak, strong, _ = read_set(DATA / f"{name}.parquet", {})
        table = table.only(weak, strong)
        return table.take(np.arange(0, len(table), max(1, len(table) // 1500))), weak, strong

    table, weak, _ = rows_of(learned)
    router = RouterWithFallback(ROUTERS[family]()).fit(table.prompts, table.grade(weak))
    for name in {"routellm_mmlu", "mixed_tasks_9models", "arena_hard_13models"} - {learned}:
        other, weak, strong = rows_of(name)
        w, s = other.grade(weak), other.grade(strong)
        served, length = (m.predict(other.prompts) for m in (router, LengthRouter()))
        assert apgr(routing_curve(served, w, s)) >= apgr(routing_curve(length, w, s)) - SHORTFALL, name
