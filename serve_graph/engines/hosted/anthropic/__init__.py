"""Anthropic's Messages API behind a hosted tier: requests from chat's shape, replies and streams back into it."""
