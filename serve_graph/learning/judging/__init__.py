"""A judge of live answers: a sample of what is served is graded by a tier, off the path of requests."""
