"""What every tier has, whatever answers: a name, a price, limits and scaling."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from serve_graph.config.base import Frozen
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.parts import AdmissionConfig
from serve_graph.config.tiers.scaling import ScalingConfig

Modality = Literal["text", "image", "audio", "video", "file"]
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class TierConfig(Frozen):
    """What every tier has: a name, a price, limits and scaling."""

    name: TierName
    """The tier's name, which requests may give as `model`."""
    price: PriceConfig
    """What its calls cost."""
    price_changes: tuple[PriceConfig, ...] = ()
    """Later prices, in the order of their `valid_from`."""
    scaling: ScalingConfig = ScalingConfig()
    """Scaling of the tier's deployment."""
    admission: AdmissionConfig = AdmissionConfig()
    """How many requests one ingress replica sends to the tier."""
    default_max_tokens: Annotated[int, Field(ge=1)] = 256
    """`max_tokens` of requests that set none."""
    decoding: dict[str, Any] = Field(default_factory=dict)
    """Sampling settings (temperature, top_p, …) of requests that set none; certificates depend on them."""
    context_tokens: Annotated[int, Field(ge=16)] | None = None
    """The model's context length, in tokens; null: of a vLLM tier its `max_model_len`, of an echo tier 2048, of a
    hosted tier not known, so that no prompt is taken to be too long for it.
    """
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for a whole answer (for a stream, until its first output), all attempts included."""
    prompt_cache_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds for which the tier keeps a prompt's prefix cached."""
    embeddings: bool = False
    """Whether the tier also serves `/v1/embeddings`."""
    modalities: tuple[Modality, ...] | None = None
    """What the tier's model takes and gives: `text` and any of `image`, `audio`, `video`, `file`. Requests that hold
    another kind are never sent to it. null: text; of the last tier it is not known, and its engine has the last word.
    """
    tools: bool | None = None
    """Whether the tier takes requests with tools; null: a vLLM tier where its `engine_kwargs` have
    `enable_auto_tool_choice`, others do.
    """
    json_schema: bool = True
    """Whether the tier takes a `response_format` of type `json_schema`."""
    reasoning: bool = True
    """Whether the tier takes a `reasoning_effort` other than `none`."""

    @field_validator("modalities")
    @classmethod
    def _text_first(cls, given: tuple[Modality, ...] | None) -> tuple[Modality, ...] | None:
        if given is None:
            return None
        if "text" not in given or len(set(given)) != len(given):
            raise ValueError(f"modalities are `text` and further ones, each once, found {list(given)}")
        return given

    @model_validator(mode="after")
    def _dated(self) -> Self:
        moments = [change.valid_from for change in self.price_changes]
        dated = [moment for moment in moments if moment is not None]
        if len(dated) < len(moments) or dated != sorted(set(dated)):
            raise ValueError("every one of price_changes needs a valid_from, later than the one before")
        return self

    @property
    def engine_name(self) -> str:
        """The tier whose engine answers."""
        return self.name

    @property
    def context_limit(self) -> int | None:
        """The tokens that a prompt and its answer may have; None where no limit is known."""
        return self.context_tokens

    @property
    def takes_tools(self) -> bool:
        """Whether requests with tools may be sent here: `tools`, or what the kind of tier makes of null."""
        return self.tools is not False

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything that the tier takes: its modalities, and whichever of `tools`, `json_schema` and `reasoning`."""
        also = {"tools": self.takes_tools, "json_schema": self.json_schema, "reasoning": self.reasoning}
        return frozenset(self.modalities or ("text",)) | {name for name, takes in also.items() if takes}
