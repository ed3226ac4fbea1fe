"""One engine in a process of its own that answers lists of prompts; its arguments and each list are lines of JSON.

The first line that it reads holds vLLM's arguments. After READY each line `{"prompts": [...], "max_tokens": N}` is
answered by a line `RESULT {...}`: seconds, tokens of every answer, and what speculation drafted and had accepted.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any


def counters(llm: Any) -> dict[str, Any]:
    """Drafts, drafted and accepted tokens, and accepted ones by position, since the engine began."""
    found: dict[str, Any] = {"drafts": 0.0, "drafted": 0.0, "accepted": 0.0, "by_position": []}
    names = {
        "vllm:spec_decode_num_drafts": "drafts",
        "vllm:spec_decode_num_draft_tokens": "drafted",
        "vllm:spec_decode_num_accepted_tokens": "accepted",
    }
    for metric in llm.get_metrics():
        if metric.name in names:
            found[names[metric.name]] += float(metric.value)
        elif metric.name == "vllm:spec_decode_num_accepted_tokens_per_pos":
            found["by_position"] = [float(value) for value in metric.values]
    return found


def main() -> None:
    arguments = json.loads(sys.stdin.readline())
    from vllm import LLM, EngineArgs, SamplingParams

    known = {field.name for field in dataclasses.fields(EngineArgs)}  # others are the server's
    llm = LLM(**{name: value for name, value in arguments.items() if name in known})
    tokenizer = llm.get_tokenizer()

    def ids(prompt: str) -> list[int]:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def answered(prompts: list[str], max_tokens: int) -> dict[str, Any]:
        asked: Any = [{"prompt_token_ids": ids(prompt)} for prompt in prompts]
        before = counters(llm)
        began = time.perf_counter()
        outputs = llm.generate(asked, SamplingParams(temperature=0.0, max_tokens=max_tokens), use_tqdm=False)
        seconds = time.perf_counter() - began
        after = counters(llm)
        old = before["by_position"] or [0.0] * len(after["by_position"])
        return {
            "seconds": seconds,
            "tokens": [list(output.outputs[0].token_ids) for output in outputs],
            **{name: after[name] - before[name] for name in ("drafts", "drafted", "accepted")},
            "by_position": [new - was for new, was in zip(after["by_position"], old, strict=True)],
        }

    answered(["Say hello."], 8)  # what is only slow the first time
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write("RESULT " + json.dumps(answered(request["prompts"], request["max_tokens"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
