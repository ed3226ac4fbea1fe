"""Run in a process of its own: greedy tokens of prompts from vLLM (speculation on or off) or from transformers.

python greedy_tokens.py {vllm|vllm-speculating|vllm-beside-sampled|transformers} MODEL [DRAFT] < prompts.json

Folders of models. With DRAFT, `vllm-speculating` takes its drafts from that model, whose vocabulary may be another.
"""

import json
import sys
from typing import Any

from serve_graph.config.graph import load_config
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.vllm.settings import MENDED_SAMPLING

MAX_TOKENS = 32


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def from_transformers(folder: str, prompts: list[str]) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokens = []
    for prompt in prompts:
        ids = torch.tensor([chat_ids(tokenizer, prompt)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False)
        tokens.append(out[0, ids.shape[1] :].tolist())
    return {"tokens": tokens, "counters": {}}


def from_vllm(
    folder: str, prompts: list[str], speculating: bool, beside_sampled: bool, draft: str | None
) -> dict[str, Any]:
    from pathlib import Path

    from vllm import LLM, SamplingParams

    tier = load_config(Path(__file__).parents[2] / "configs" / "local.yaml").tier("cheap")
    assert isinstance(tier, VllmTierConfig)
    speculation: dict[str, Any] = {}
    if speculating:
        speculation = {"speculative_config": tier.speculation, "worker_extension_cls": MENDED_SAMPLING}
    if draft is not None:
        speculation["speculative_config"] = {
            "method": "draft_model", "model": draft, "num_speculative_tokens": 3, "use_heterogeneous_vocab": True,
        }  # fmt: skip
    llm = LLM(model=folder, disable_log_stats=False, **tier.engine_kwargs, **speculation)
    tokenizer = llm.get_tokenizer()
    asked = [{"prompt_token_ids": chat_ids(tokenizer, prompt)} for prompt in prompts]
    greedy, sampled = (SamplingParams(temperature=heat, max_tokens=MAX_TOKENS) for heat in (0.0, 0.7))
    company = len(asked) if beside_sampled else 0
    settings = [greedy] * len(asked) + [sampled] * company
    outputs = llm.generate([*asked, *asked[:company]], settings, use_tqdm=False)[: len(asked)]
    metrics = {m.name: float(m.value) for m in llm.get_metrics() if "spec_decode" in m.name and hasattr(m, "value")}
    return {"tokens": [list(o.outputs[0].token_ids) for o in outputs], "counters": metrics}


if __name__ == "__main__":
    kind, model_folder, *draft_folder = sys.argv[1:]
    questions = json.load(sys.stdin)
    if kind == "transformers":
        result = from_transformers(model_folder, questions)
    else:
        drafts = draft_folder[0] if draft_folder else None
        result = from_vllm(model_folder, questions, kind != "vllm", kind == "vllm-beside-sampled", drafts)
    sys.stdout.write("\nRESULT " + json.dumps(result) + "\n")
