"""Batches in passes over the data: every row is routed, then each tier answers all rows that are its, in one pass."""
