"""vLLM's CPU build adds nothing for a request without an adapter that is computed beside requests that have one."""

import subprocess
import sys

CODE = """
import torch
import serve_graph.engines.vllm.cpu_adapters
from vllm.lora.ops.torch_ops import bgmv_shrink, sgmv_shrink
from vllm.lora.punica_wrapper import punica_cpu

inputs, weights = torch.ones(3, 4), torch.stack([torch.full((1, 2, 4), 1.0), torch.full((1, 2, 4), 2.0)])
places = torch.tensor([-1, 1, 0])
for shrink in (bgmv_shrink, punica_cpu.bgmv_shrink):
    out = torch.full((3, 2), 9.0)
    shrink(inputs, weights, out, places, 1.0)
    assert out.tolist() == [[0.0, 0.0], [8.0, 8.0], [4.0, 4.0]], out
out = torch.full((4, 2), 9.0)
sgmv_shrink(torch.ones(4, 4), weights, out, None, torch.tensor([2, 1, 1]), places, 3, 2, 4, 1.0)
assert out.tolist() == [[0.0, 0.0], [0.0, 0.0], [8.0, 8.0], [4.0, 4.0]], out
print("mended")
"""


def test_a_row_without_an_adapter_gets_none() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False)
    assert "mended" in done.stdout, done.stderr[-2000:]
