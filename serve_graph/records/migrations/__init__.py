"""Alembic's migrations of the decision store, run by `migrate`."""
