"""People who sign in to the console with a browser: their sessions, and the forms that they send."""
