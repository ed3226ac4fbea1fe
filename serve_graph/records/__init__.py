"""One row per request: spooled to a file first, moved to SQL behind the request's back."""
