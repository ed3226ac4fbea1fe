"""How APIs and engines word the errors that must not lose their meaning: their codes, and patterns of their messages.

OpenAI, Azure, Anthropic, Gemini, Bedrock, Mistral, Cohere, Together, Groq, DeepSeek, Moonshot, Qwen, Zhipu, xAI,
OpenRouter, vLLM, SGLang, TGI, llama.cpp, Ollama and LiteLLM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

CONTEXT_LENGTH, CONTENT_FILTER, UNSUPPORTED = "context_length_exceeded", "content_filter", "unsupported_parameter"
LONGEST = 2_000
"""Characters of a message that are read: what follows may be the prompt."""

_REQUEST_WORDS = {
    CONTEXT_LENGTH: """context_length_exceeded context_window_exceeded exceed_context_size_error tokens_limit_reached
        contextwindowexceedederror prompt_too_long input_too_long max_context_length_exceeded 1261""",
    CONTENT_FILTER: """content_filter content_filtered content_policy_violation contentpolicyviolationerror safety
        responsibleaipolicyviolation moderation_blocked content_blocked policy_violation prohibited_content
        guardrail_intervened data_inspection_failed datainspectionfailed sensitive_words_detected invalid_prompt
        error_toxic 1301""",
    UNSUPPORTED: "unsupported_parameter unsupportedparamserror extra_forbidden unsupported_field unsupported_feature",
    "unsupported_value": "unsupported_value",
    "unknown_parameter": "unknown_parameter unrecognized_parameter",
}
REQUEST_CODES: Mapping[str, str] = MappingProxyType(
    {word: code for code, words in _REQUEST_WORDS.items() for word in words.split()}
)
"""Codes and types of errors of the request itself, in lower case, and OpenAI's code for each."""

SETUP_CODES = frozenset(
    """insufficient_quota insufficient_balance insufficient_credits insufficient_funds insufficient_user_quota
    billing_hard_limit_reached billing_not_active billing_error payment_required credit_limit_exceeded quota_exceeded
    exceeded_current_quota_error budget_exceeded arrearage 1113 account_deactivated account_suspended access_terminated
    organization_restricted invalid_api_key api_key_invalid incorrect_api_key invalid_authentication
    invalid_authentication_error authentication_error unauthenticated unauthorized permission_denied permission_error
    accessdenied accessdeniedexception unrecognizedclientexception invalidsignatureexception expiredtokenexception
    ip_not_authorized unsupported_country_region_territory model_not_found model_not_available model_deprecated
    model_decommissioned modelnotfound invalid_model deploymentnotfound not_found_error resourcenotfoundexception
    model_terms_required service_disabled""".split()
)
"""Codes and types that say that the tier's account, key or model will serve nobody."""

BUSY_CODES = frozenset(
    """overloaded_error rate_limit_exceeded rate_limit_error rate_limit_reached_error ratelimiterror too_many_requests
    toomanyrequests resource_exhausted throttlingexception throttling requests tokens engine_overloaded_error
    1302""".split()
)
TIMEOUT_CODES = frozenset(
    "timeout timeout_error request_timeout gateway_timeout deadline_exceeded modeltimeoutexception".split()
)
UNAVAILABLE_CODES = frozenset(
    """server_error internal_error internal_server_error api_error internal unavailable
    service_unavailable serviceunavailableexception model_overloaded modelnotreadyexception bad_gateway
    internalservererror""".split()
)
OWN_CODES = frozenset(
    """string_above_max_length array_above_max_length array_below_min_length integer_above_max_value invalid_value
    integer_below_min_value decimal_above_max_value decimal_below_min_value missing_required_parameter invalid_type
    invalid_image invalid_image_url invalid_image_format image_too_large invalid_function_parameters empty_string
    invalid_base64 duplicate_name rate_limit_exceeded""".split()
)
"""OpenAI's codes of errors that no wording overrules."""
REQUEST_KINDS = frozenset(
    """invalid_request_error invalid_argument bad_request badrequesterror validation_error validationexception
    invalid_parameter_error invalid_value request_too_large failed_precondition out_of_range""".split()
)
"""Codes that say what a status would: read where there is none."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_OURS = r"\b(?<!max )(?<!maximum )(?<!completion )(?<!output )"
_COUNTED = _OURS + r"(inputs?|prompts?|tokens?|messages?|request|conversation|sequence|text)\b"
_WINDOW = r"context[ _-]?(length|window|size|limit)"
CONTEXT_WORDS = _any(
    _WINDOW + r"\b.{0,80}?\b(exceed|too (long|large|small)|only|longer|overflow|reached)",
    r"\b(maximum|max|exceed\w*|longer|larger|beyond|available|over|limit\w*)\b.{0,60}?" + _WINDOW,
    r"contextwindowexceeded|maximum (model|prompt|sequence|total|input) length",
    r"\btoo many (input |prompt |total )?tokens|max size: \d+ tokens|prompt exceeds max length",
    _COUNTED + r".{0,60}?\b(is|are|was|too|size) (too )?(long|large)\b",
    _COUNTED + r".{0,80}?\b(exceed\w*|(fewer|less|more|longer|larger) than|at most)\b.{0,80}?"
    r"(tokens?|limit|length|maximum|\d)",
    _COUNTED + r".{0,80}?\b(must|should) be (<|≤|fewer|less|at most).{0,40}?(\d|tokens?)",
    r"(reduce|shorten) (the |your )?((length|size) of )?(the |your )?(messages?|prompt|input|request|conversation)",
    r"\b(input|prompt) length\b.{0,60}?(exceed|should be|must be|range)",
    r"\b(token|length|prompt|input|sequence)s? (limit|length|size) (is |was |has been )?(exceeded|reached)",
    r"\bmax(imum)? (input |prompt )?tokens? (limit |length )?exceeded|exceed\w*.{0,60}?\b\d+ tokens",
    r"\b(prompt|input|request|messages?)\b.{0,40}?\d+ tokens.{0,60}?\b(maximum|max|limit|only|at most)\b",
    r"range of input length|exceed\w*.{0,40}?token limit",
)
CONTENT_WORDS = _any(
    r"content[ _-]?(filter|management|policy|policies|moderation|safety)|responsible ?ai",
    r"\bflagged\b|\bjailbreak|\bnsfw\b|\btoxic|content exists risk|blocked output|high risk|sensitive words|guardrail",
    r"violat\w+.{0,60}?(polic|guideline)|prohibited[ _]content|(inappropriate|harmful|sensitive|unsafe) content",
    r"\bblocked\b.{0,60}?(safety|polic|filter|content|moderation|harm)",
    r"(safety|moderation) (system|polic|guideline|setting|filter|reason|check)|敏感|不安全",
)
RATE_WORDS = _any(
    r"rate[ _-]?limit|(?<![a-z])per[ _-]?(second|minute|min|hour|day)|requests_per",
    r"\b(retry|try again) (in|after)|too many requests",
    r"\b[rt]p[md]\b",
)
"""Limits that pass by themselves: never a fault of the account, whatever else the message advises."""
ACCOUNT_WORDS = _any(
    r"insufficient[ _](quota|balance|credit|fund)|credit balance|out of (credit|fund|quota|call volume)|\bbilling\b",
    r"exceeded your (current |monthly |included |free )*(quota|credit)|no (remaining|more|available) (credit|quota)",
    r"(payment|spending|spend|usage|credit|monthly|budget) (is )?(required|limit|cap\b)|budget has been exceeded",
    r"monthly quota|trial key|(location|country|region|territory)\b.{0,40}?not supported|provide an api key",
    r"prepaid|overdue|arrear|欠费|余额不足",
    r"\b(account|organi[sz]ation|project|access|team|api key|subscription)\b.{0,60}?"
    r"(deactivated|disabled|suspended|terminated|banned|restricted|expired|revoked)",
    r"(invalid|incorrect|missing|expired|revoked|wrong|no) .{0,20}?(api|access|auth\w*)[ _-]?(key|token|credential)",
    r"(api|access)[ _-]?(key|token)\b.{0,40}?"
    r"(invalid|incorrect|not valid|expired|missing|revoked|not found|required|disabled)",
)
MODEL_WORDS = _any(
    r"\b(model|deployment|engine)s?\b.{0,120}?(does ?n[o']t exist|not exist|not found|no longer|is invalid\b)",
    r"\b(model|deployment|engine)s?\b.{0,120}?(has been|is|was|been) "
    r"(deprecated|decommissioned|retired|removed|discontinued|sunset|shut ?down)",
    r"\bmodel\b.{0,60}?end of (its )?life|\b(no such|unknown|invalid|unrecognized|unsupported) (model|deployment)"
    r"( name| id| identifier)?\b(?! (parameter|option|setting))",
    r"\bmodel [`'\"]?[\w./:-]+[`'\"]? (is|was) (not|un) ?(currently )?"
    r"(supported|available|accessible|valid|active|deployed)",
    r"unable to access model|not a chat model|try pulling it|not a valid model",
    r"(do(es)? not|does ?n't|don't) have access",
)
UNSUPPORTED_WORDS = _any(
    r"unsupported (parameter|value|field|argument|option|feature|param|key|propert)|extraneous key|extra_forbidden",
    r"\b(unknown|unrecognized|unrecognised|unexpected) (request |keyword |input )*"
    r"(argument|parameter|field|name|key|option|propert)",
    r"(extra|additional) (inputs?|fields?|properties|keys?|parameters?) (are |is )?(not|un)|only the default",
    r"\b(is|are|was) (not|un) ?(currently |yet )?(supported|permitted)\b|\bis unsupported",
    r"does ?n[o']t support|do(es)? not support|\bnot supported (with|by|for|in|on)\b|cannot find field",
    r"not (allowed|available) (for|with) this model|not enabled for|no endpoints found that support",
)
_NAME = r"([A-Za-z_]\w{0,63}(?:\.\w{1,32}|\[\d{1,4}\]){0,4})"
_NOUN = r"(?:propert(?:y|ies)|parameters?|fields?|arguments?|names?|keys?|params?|option|supplied)"
PARAM_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_NOUN}\b[^`'\"\w]{{0,4}}[`'\"\[]+{_NAME}",
        rf"^(?:body\.)?{_NAME}: (?:extra|additional|unknown|unexpected)",
        rf"[`'\"]{_NAME}[`'\"]\s+(?:is|are|does|was|not)\b",
        rf"\b{_NOUN}\s*:?\s+(?!(?:is|are|not|in|for|with|was|name|supplied|named|called)\b){_NAME}",
        rf"^{_NAME} (?:is|are) (?:not|un)",
        rf"[`'\"]{_NAME}[`'\"]",
        r"\bsupport (?:for )?(?:the )?(tools|tool_choice|functions|logprobs|top_logprobs|response_format|seed|stop|n"
        r"|temperature|top_p|top_k|logit_bias|reasoning_effort|parallel_tool_calls|stream|stream_options|user)\b",
    )
)
"""Where a message names the parameter that is not supported, the surest first."""
