"""The names under which engines and APIs report token counts, by what they count: one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

USAGE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # OpenAI, Azure and everybody compatible; Anthropic and OpenAI's Responses; Bedrock; Gemini; Cohere
        "prompt": (
            "prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count",
            "billed_units.input_tokens",
        ),
        "output": (
            "completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "candidates_token_count",
            "billed_units.output_tokens",
        ),
        "total": ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count"),
        # Part of the prompt. OpenAI, xAI, Groq, Qwen; Responses; DeepSeek; Moonshot, Together; Mistral; Gemini
        "cached": (
            "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "prompt_cache_hit_tokens",
            "cached_tokens", "num_cached_tokens", "cachedContentTokenCount", "cached_content_token_count",
        ),
        "written": (
            "prompt_tokens_details.cache_write_tokens", "prompt_tokens_details.cache_creation_tokens",
            "input_tokens_details.cache_write_tokens", "input_tokens_details.cache_creation_tokens",
        ),
        "missed": ("prompt_cache_miss_tokens",),
        # Beside `input_tokens` (Anthropic, Bedrock); part of `prompt_tokens` where a gateway has added them up
        "cached_beside": ("cache_read_input_tokens", "cacheReadInputTokens"),
        "written_beside": ("cache_creation_input_tokens", "cacheWriteInputTokens"),
        # Gemini's own names: beside the two counts
        "tool_prompt": ("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        "thoughts_beside": ("thoughtsTokenCount", "thoughts_token_count"),
        # Part of the output at OpenAI and Anthropic; beside it at xAI and Gemini, as the total shows
        "reasoning": (
            "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "reasoning_tokens",
            "output_tokens_details.thinking_tokens",
        ),
    }
)  # fmt: skip
"""Every name under which a count is read, by what it counts; a name with a point is in a nested object."""
