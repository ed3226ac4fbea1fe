"""Tests of a promise while it is served: pure, no clock, no store."""
