"""OpenAI's `/v1/responses` over chat: requests in, responses and typed events out. Text and function calls.

Nothing is kept between requests: `previous_response_id`, `conversation` and background runs are refused by name.
"""

from serve_graph.api.responses.format import ResponsesFormat
from serve_graph.api.responses.request import ResponsesRequest, responses_query

__all__ = ["ResponsesFormat", "ResponsesRequest", "responses_query"]
