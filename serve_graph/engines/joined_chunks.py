"""Make one chunk of the texts that came together: every chunk costs what each step up to the caller costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_TEXTS = frozenset({"content", "reasoning", "reasoning_content"})
_TEXT_CHOICE = frozenset({"index", "delta", "logprobs"})


def joined_chunks(chunks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join chunks that came together where one says all that they say: neighbours of one choice's text.

    Texts and logprobs follow one another as they came, and usage is the last one's where it says at least what came
    before it; a chunk whose usage says less begins anew, as whoever counts takes the most of each. A chunk with
    anything else (a role, a finish reason, tool calls, a field of its own) stays a chunk of its own, so that an
    accumulator, and whoever reads the stream, ends up with the same answer.
    """
    found: list[dict[str, Any]] = []
    run: list[dict[str, Any]] = []
    terms: Any = None
    usage: Any = None
    for chunk in chunks:
        own = _terms_of_text(chunk)
        if run and (own != terms or not _says_as_much(chunk.get("usage") or usage, usage)):
            found.append(_joined(run))
            run = []
        if own is None:
            found.append(chunk)
        else:
            usage = chunk.get("usage") or (usage if run else None)
            run.append(chunk)
        terms = own
    return [*found, _joined(run)] if run else found


def joined_as_read(chunks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Join what is there to be read without waiting; what reading it raises is raised after what came before."""
    read: list[dict[str, Any]] = []
    fault: Exception | None = None
    try:
        for chunk in chunks:
            read.append(chunk)  # noqa: PERF402 (what was read before a fault is kept)
    except Exception as error:  # noqa: BLE001 (raised below)
        fault = error
    yield from joined_chunks(read)
    if fault is not None:
        raise fault


def _terms_of_text(chunk: Any) -> tuple[Any, ...] | None:
    """What chunks must have in common that are joined; None where this one is joined with none."""
    choices = chunk.get("choices") if isinstance(chunk, Mapping) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choice := choices[0], Mapping):
        return None
    delta, logprobs = choice.get("delta"), choice.get("logprobs")
    if not isinstance(delta, Mapping):
        return None
    said = [name for name, value in delta.items() if value is not None]
    if len(said) != 1 or said[0] not in _TEXTS or not isinstance(delta[said[0]], str):
        return None
    if logprobs is not None and not (
        isinstance(logprobs, Mapping)
        and isinstance(logprobs.get("content"), list)
        and all(isinstance(token, Mapping) and _is_number(token.get("logprob")) for token in logprobs["content"])
        and not any(value for name, value in logprobs.items() if name != "content")
    ):
        return None
    if any(value is not None for name, value in choice.items() if name not in _TEXT_CHOICE):
        return None
    beside = {name: value for name, value in chunk.items() if name not in {"choices", "usage"}}
    return said[0], choice.get("index"), logprobs is None, beside


def _joined(run: list[dict[str, Any]]) -> dict[str, Any]:
    if len(run) == 1:
        return run[0]
    first, choices = run[0], [chunk["choices"][0] for chunk in run]
    name = next(name for name, value in choices[0]["delta"].items() if value is not None)
    choice = {**choices[0], "delta": {**choices[0]["delta"], name: "".join(each["delta"][name] for each in choices)}}
    if choice.get("logprobs") is not None:
        content = [token for each in choices for token in each["logprobs"]["content"]]
        choice["logprobs"] = {**choice["logprobs"], "content": content}
    usage = [chunk["usage"] for chunk in run if chunk.get("usage")]
    return {**first, "choices": [choice], **({"usage": usage[-1]} if usage else {})}


def _says_as_much(usage: Any, before: Any) -> bool:
    """Whether nothing of a usage object is lost where a later one stands for it."""
    if before is None:
        return True
    if isinstance(before, Mapping):
        return isinstance(usage, Mapping) and all(
            _says_as_much(usage.get(name), value) for name, value in before.items()
        )
    return bool(usage >= before) if _is_number(usage) and _is_number(before) else bool(usage == before)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
