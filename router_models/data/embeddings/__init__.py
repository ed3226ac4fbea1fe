"""Embed texts, and keep the embeddings that were made."""
