"""The beginning that a certificate was made on is the one that is judged: cut by tokens, whatever arrives how."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.formats import outcomes_to_frame, parse_columns
from router_models.data.outcomes import prompt_id, read_outcomes, table_of, write_outcomes
from router_models.data.prefixes import kept_logprobs
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import LogprobVerifier, NonEmptyVerifier
from router_models.training.prefix import labelled_prefixes, prefixes_of
from router_models.types import Completion, Decision, OperatingPoint, Outcome, PrefixPoint, Query, Usage
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage
from serve_graph.protocol.chunks import CompletionAccumulator
from serve_graph.protocol.responses import completion_of, token_texts
from tests.fixtures.sampling import examples

PROMPT = "¿Qué?"
LOGPROB = st.floats(-20, 0)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An answer as an engine's tokens: any text cut between any two of its bytes, then the token that ends it."""
    said = draw(st.text(st.sampled_from("ab é☃前🙂́"), min_size=1, max_size=12)).encode()
    cuts = sorted(draw(st.sets(st.integers(1, len(said)), max_size=8)) | {len(said)})
    parts = [said[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    has_bytes = draw(st.booleans())
    tokens = []
    for part in parts:
        token = {"token": part.decode(errors="replace"), "logprob": draw(LOGPROB)}
        tokens.append(token | ({"bytes": list(part)} if has_bytes else {}))
    return [*tokens, {"token": "<end>", "logprob": draw(LOGPROB)}]


def spoken(tokens: list[dict[str, Any]]) -> str:
    return "".join(token_texts({"choices": [{"logprobs": {"content": tokens[:-1]}}]}))


def whole(tokens: list[dict[str, Any]]) -> Completion:
    """The answer as a reply that does not stream: what `collect` sees."""
    message = {"role": "assistant", "content": spoken(tokens)}
    choice = {"index": 0, "message": message, "logprobs": {"content": tokens}, "finish_reason": "stop"}
    return completion_of({"choices": [choice]}, 0.1)


def collected(completion: Completion, prompt: str = PROMPT) -> Outcome:
    return Outcome(
        prompt_id(prompt), prompt, "cheap", completion.text, 1.0, Usage(9, len(completion.token_logprobs)), 0.1,
        token_texts=token_texts(completion.payload), token_logprobs=kept_logprobs(completion.token_logprobs),
    )  # fmt: skip


def streamed(tokens: list[dict[str, Any]], sizes: list[int], late: bool, length: int) -> Completion | None:
    """The first beginning that a server can judge, of the same tokens in chunks of any size."""
    accumulator, at = CompletionAccumulator(), 0
    for size in [*sizes, len(tokens)]:
        if at == len(tokens):
            break
        now, at = tokens[at : at + size], min(at + size, len(tokens))
        ends = "stop" if at == len(tokens) and not late else None
        delta = {"content": f"chunk {at}"}
        accumulator.add(
            {"choices": [{"index": 0, "delta": delta, "logprobs": {"content": now}, "finish_reason": ends}]}
        )
        if (begun := accumulator.prefix(length)) is not None:
            return begun
    return accumulator.prefix(length)


def version() -> RouterVersion:
    """Judges prefixes by their logprobs, so that every one of them counts."""
    rng = np.random.default_rng(0)
    outcomes = []
    for i in range(60):
        numbers = tuple(float(x) for x in -rng.exponential(0.2 if i % 2 else 2.0, 4))
        outcomes.append(
            Outcome(prompt_id(f"q{i}"), f"q{i}", "cheap", "abcd", float(i % 2), Usage(9, 4), 0.1,
                    token_texts=tuple("abcd"), token_logprobs=numbers)
        )  # fmt: skip
    learned = prefixes_of(table_of(parse_columns(outcomes_to_frame(outcomes))), "cheap", 3)
    verifier = LogprobVerifier().fit(learned.answers, learned.right)
    policy = Policy(("cheap", "top"), {"cheap": OperatingPoint(0.0, 0.5)}, {"cheap": PrefixPoint(3, 0.5)})
    stage = Stage(ConstantRouter(), None, NonEmptyVerifier(), None)
    return RouterVersion(policy, {"cheap": stage}, prefix_stages={"cheap": Stage(None, None, verifier, None)})


VERSION = version()


@settings(max_examples=examples(75, whole=300), deadline=None)
@given(answers(), st.lists(st.integers(1, 5), max_size=14), st.booleans(), st.integers(1, 8))
def test_what_is_judged_is_what_was_certified(
    tokens: list[dict[str, Any]], sizes: list[int], late: bool, length: int
) -> None:
    table = table_of(parse_columns(outcomes_to_frame([collected(whole(tokens))])))
    stream_tier = streamed(tokens, sizes, late, length)
    if stream_tier is None:
        assert len(tokens) <= length, "judged whole, and left out of what is certified"
        return
    kept = prefixes_of(table, "cheap", length)
    assert kept.answers.texts == (stream_tier.text,)
    assert kept.answers.finish_reasons == (stream_tier.finish_reason,)
    assert whole(tokens).text.startswith(stream_tier.text)
    stage = VERSION.prefix_stages["cheap"]
    query = Query.from_prompt(PROMPT)
    estimate = VERSION.judge(query, stream_tier, Decision("cheap", "test", 0.5)).p_ok
    assert labelled_prefixes(stage, "cheap", length, table).scores.tolist() == [estimate]


def test_a_beginning_survives_the_file_it_is_kept_in(tmp_path: Path) -> None:
    parts = ["é".encode()[:1], "é".encode()[1:], " ☃".encode(), b"!"]
    tokens = [{"token": "?", "bytes": list(part), "logprob": -1 / 3} for part in parts]
    answer = whole([*tokens, {"token": "<end>", "logprob": -0.1}])
    assert answer.text == "é ☃!"
    write_outcomes(tmp_path / "o.parquet", [collected(answer)])
    table = read_outcomes(tmp_path / "o.parquet")
    begun = [prefixes_of(table, "cheap", n).answers.texts for n in (1, 2, 3, 4)]
    assert begun == [("",), ("é",), ("é ☃",), ("é ☃!",)]
