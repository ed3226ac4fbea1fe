"""Alembic's environment: migrate over the connection that is given, in the transaction its owner has begun."""

from alembic import context

from serve_graph.records.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
