"""OpenAI's `/v1/responses` over chat completions: text and function calls, whole and as typed events.

Nothing is stored between requests: `previous_response_id`, `conversation` and background runs are rejected by name.
"""

from serve_graph.api.responses.format import ResponsesFormat
from serve_graph.api.responses.request import ResponsesRequest, responses_query

__all__ = ["ResponsesFormat", "ResponsesRequest", "responses_query"]
