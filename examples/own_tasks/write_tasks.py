"""Write a file of tasks, one JSON line each: a prompt and the grader that marks an answer to it.

    python write_tasks.py tasks.jsonl

This stands for an export of your own prompts. `mentions` wants one of the accepted words in the answer; other graders
read numbers, JSON, dates, or run a program (docs/guides/outcomes.md).
"""

import json
import sys
from pathlib import Path

ANIMALS = "cat dog fox owl bee ant hen cow pig bat".split()


def task(i: int) -> dict[str, object]:
    """Easy: either server is right (its answer begins with its name). Hard, and one easy in 20: only `large` is."""
    hard = i % 3 == 0
    animal = ANIMALS[i % len(ANIMALS)]
    prompt = (
        f"Prove in full that theorem {i} holds for every {animal}." if hard else f"What colour is {animal} number {i}?"
    )
    accepted = ["large"] if hard or i % 20 == 1 else ["small", "large"]
    return {
        "id": f"task-{i}",
        "prompt": prompt,
        "family": "proofs" if hard else "colours",
        "difficulty": 3 if hard else 1,
        "language": "en",
        "grader": "mentions",
        "reference": {"accepted": accepted},
        "solution": accepted[0],
        "max_tokens": 64,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(json.dumps(task(i)) + "\n" for i in range(400)))
