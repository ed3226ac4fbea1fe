"""Anthropic's Messages API over chat completions: `/v1/messages`, whole and as typed events, and `count_tokens`.

A request becomes a chat request and goes the way of every other; replies, stream chunks and errors are converted back.
"""

from serve_graph.api.messages.format import MessagesFormat
from serve_graph.api.messages.query import messages_query
from serve_graph.api.messages.request import CountTokensRequest, MessagesRequest

__all__ = ["CountTokensRequest", "MessagesFormat", "MessagesRequest", "messages_query"]
