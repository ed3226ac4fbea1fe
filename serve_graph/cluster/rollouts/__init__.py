"""Rollouts on replicas: the candidate beside the stable version, and what drives it step by step."""
