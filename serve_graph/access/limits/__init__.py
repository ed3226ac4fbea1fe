"""Limits by the minute, and what several ingress replicas keep of them together."""
