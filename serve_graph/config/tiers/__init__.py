"""Configuration of the tiers."""
