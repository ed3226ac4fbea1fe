"""Records on their way to the store: spooled in files of this process first, delivered later."""
