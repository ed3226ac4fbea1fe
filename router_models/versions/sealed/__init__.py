"""The sealed folder of a version: its files, written and read."""
