"""Decision records: one row per request, spooled to a file first and moved to SQL in the background."""
