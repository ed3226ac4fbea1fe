"""Golden tasks: the same ones asked again and again, so that a model that changes behind an API is noticed."""
