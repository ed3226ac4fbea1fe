"""Decisions that wait at the same time: embedded together, and each the same as if it had been made alone."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.data.embeddings.encoder import EMBEDDING_DIM, Encoder
from router_models.data.embeddings.recent_vectors import RecentVectors
from router_models.data.features import prompts_of
from router_models.errors import ArtifactError
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.routers import ConstantRouter, LinearRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Decision, OperatingPoint, Query
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.cluster.load.decided_together import (
    MOST_TEXT,
    MOST_TOGETHER,
    DecidedTogether,
)

POLICY = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.5, 0.5)})
WORDS = "what colour is the horse that ran over 17 hills, and why does nobody ask for it in Łódź or 東京".split()


class CountingEncoder(Encoder):
    """Vectors from a text's length; notes how many texts each call had. Fails with those that hold `fails`."""

    digest = "0" * 64

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.let_go: threading.Event | None = None

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        if self.let_go is not None:
            assert self.let_go.wait(20)
        if any("fails" in text for text in texts):
            raise ArtifactError("it is damaged")
        return np.array([np.full(EMBEDDING_DIM, len(text) / 1000) for text in texts], dtype=np.float32)


class Counting(Encoder):
    """The real encoder; notes how many texts each call had."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        self.sizes.append(len(texts))
        return super().encode(texts, batch_size)


class Noting(ConstantRouter):
    """A router that wants embeddings and fails with a text that says so."""

    needs_embeddings = True

    def predict(self, X: Any) -> Any:
        assert X.embeddings is not None
        if any("odd" in text for text in X.texts):
            raise ValueError("an odd text")
        return super().predict(X)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def version(encoder: CountingEncoder) -> RouterVersion:
    return RouterVersion(POLICY, {"cheap": Stage(Noting(0.9), None, NonEmptyVerifier(), None)}, encoder=encoder)


@pytest.fixture(params=["thread", "event loop"])
def thread(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param != "thread":
        yield None
        return
    with ThreadPoolExecutor(1) as made:
        yield made


def asked(texts: Sequence[str]) -> list[Query]:
    return [Query.from_prompt(text) for text in texts]


async def all_of(together: DecidedTogether, version: RouterVersion, texts: Sequence[str]) -> list[Decision]:
    return await asyncio.gather(*(together.decide(version, query) for query in asked(texts)))


async def test_with_the_real_encoder_every_score_is_the_one_it_has_alone(thread: Executor | None) -> None:
    drawn = random.Random(3)
    texts = [" ".join(drawn.choices(WORDS, k=drawn.choice((1, 3, 5, 8, 13, 40)))) for _ in range(40)]
    alone, trained = Encoder(), asked(texts[:24])
    try:
        prompts = prompts_of(trained, alone)
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    router = LinearRouter().fit(prompts, np.arange(24) % 2 * 1.0)
    stages = {"cheap": Stage(router, None, NonEmptyVerifier(), None)}
    novelty = NoveltyDetector().fit(prompts, embedded=True)
    counting = Counting()
    version = RouterVersion(POLICY, stages, encoder=counting, novelty=novelty)
    together = await all_of(DecidedTogether(thread), version, texts)
    assert max(counting.sizes) > 4, counting.sizes
    single = replace(version, encoder=alone)
    for text, decision in zip(texts, together, strict=True):
        wanted = single.decide(Query.from_prompt(text))
        assert wanted.p_cheap_ok is not None
        assert wanted.distance is not None
        assert decision.p_cheap_ok == pytest.approx(wanted.p_cheap_ok, abs=1e-6)
        assert decision.distance == pytest.approx(wanted.distance, abs=1e-6)
        assert (decision.tier, decision.reason) == (wanted.tier, wanted.reason)
        assert decision.embedding is not None
        assert wanted.embedding is not None
        assert (decision.embedding.text_digest, decision.embedding.encoder) == (
            wanted.embedding.text_digest, wanted.embedding.encoder,
        )  # fmt: skip
        np.testing.assert_allclose(decision.embedding.vector, wanted.embedding.vector, atol=1e-6)


async def test_those_that_ask_at_once_are_embedded_with_one_call(
    thread: Executor | None, version: RouterVersion, encoder: CountingEncoder
) -> None:
    decisions = await all_of(DecidedTogether(thread), version, [f"question {i}" for i in range(MOST_TOGETHER + 3)])
    assert encoder.calls == [MOST_TOGETHER, 3]
    assert {decision.tier for decision in decisions} == {"cheap"}


async def test_whoever_asks_while_a_batch_is_under_way_is_in_the_next(
    version: RouterVersion, encoder: CountingEncoder
) -> None:
    encoder.let_go = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        together = DecidedTogether(thread)
        first = asyncio.ensure_future(together.decide(version, Query.from_prompt("first")))
        while not encoder.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(together.decide(version, query)) for query in asked("abcde")]
        given_up = asyncio.ensure_future(together.decide(version, Query.from_prompt("given up")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        encoder.let_go.set()
        await asyncio.gather(first, *others)
    assert encoder.calls == [1, 5], "nobody waits for what was given up, and it is not embedded"


async def test_texts_of_other_lengths_and_versions_and_too_many_characters_are_apart(
    thread: Executor | None, version: RouterVersion, encoder: CountingEncoder
) -> None:
    together, other = DecidedTogether(thread), replace(version, name="other")
    long = ["x" * (MOST_TEXT // 4) + str(i) for i in range(4)]
    asking = [all_of(together, version, ["short", *long, "brief"]), all_of(together, other, ["small"])]
    await asyncio.gather(*asking)
    assert encoder.calls == [2, 3, 1, 1], "short and brief; three long ones, as four are too much; the last; the other"


async def test_one_that_fails_fails_alone_whether_its_router_or_its_encoder_refuses_it(
    thread: Executor | None, version: RouterVersion
) -> None:
    together = DecidedTogether(thread)
    found = await asyncio.gather(
        *(together.decide(version, query) for query in asked(["fine", "odd", "well"])), return_exceptions=True
    )
    assert [type(each).__name__ for each in found] == ["Decision", "ValueError", "Decision"]
    found = await asyncio.gather(
        *(together.decide(version, query) for query in asked(["fine", "fails"])), return_exceptions=True
    )
    assert [type(each).__name__ for each in found] == ["Decision", "ArtifactError"]
    assert (await together.decide(version, Query.from_prompt("again"))).tier == "cheap", "it goes on"


class PanicError(BaseException):
    """As the tokenizer's Rust code raises where it has a fault of its own."""


async def test_a_fault_that_is_no_exception_fails_its_batch_and_those_behind_it_are_decided(
    thread: Executor | None, version: RouterVersion, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoder.encode

    def panics(texts: Sequence[str], batch_size: int = 32) -> NDArray[np.float32]:
        if any("panic" in text for text in texts):
            raise PanicError
        return encode(texts, batch_size)

    monkeypatch.setattr(encoder, "encode", panics)
    together = DecidedTogether(thread)
    texts = ["panic", "x" * 400, "y" * 200]
    found = await asyncio.wait_for(
        asyncio.gather(*(together.decide(version, one) for one in asked(texts)), return_exceptions=True), 20
    )
    assert [type(each).__name__ for each in found] == ["RuntimeError", "Decision", "Decision"]
    assert (await asyncio.wait_for(together.decide(version, Query.from_prompt("again")), 20)).tier == "cheap"


async def test_where_the_thread_has_ended_nobody_waits_for_ever(version: RouterVersion) -> None:
    thread = ThreadPoolExecutor(1)
    thread.shutdown()
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="shutdown"):
            await DecidedTogether(thread).decide(version, Query.from_prompt("anything"))


async def test_a_prompt_that_comes_again_is_decided_the_same_and_not_embedded_again(
    encoder: CountingEncoder, version: RouterVersion, thread: Executor | None
) -> None:
    together = DecidedTogether(thread)
    first = await all_of(together, version, ["the sum", "a river", "the sum"])
    assert encoder.calls == [2], "twice in one batch is once"
    again = await all_of(together, version, ["a river", "the sum", "a poem"])
    assert encoder.calls == [2, 1]
    assert [replace(one, embedding=None) for one in again[:2]] == [replace(one, embedding=None) for one in first[1:]]
    other = CountingEncoder()
    other.digest = "1" * 64  # type: ignore[misc]
    await all_of(together, replace(version, encoder=other), ["a river"])
    assert other.calls == [1], "of another encoder nothing is known"


def test_the_embeddings_of_the_last_prompts_are_kept_and_no_more(encoder: CountingEncoder) -> None:
    recent = RecentVectors(most=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        [made] = recent.of_queries(encoder, asked([text]))
        assert made.vector[0] == np.float32(len(text) / 1000)
    assert encoder.calls == [1, 1, 1, 1], "one, two, three, and two again, which was asked for longest ago"
    with pytest.raises(ArtifactError):
        recent.of_queries(encoder, asked(["it fails"]))
    assert len(recent.of_queries(encoder, asked(["two", "it is new"]))) == 2
