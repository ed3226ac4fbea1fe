"""Tens of millions of requests through replicas that scale, in bounded memory: what a replay of each event cannot."""
