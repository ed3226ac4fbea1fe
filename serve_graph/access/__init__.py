"""Who may ask for what, how often, and for how much: keys, limits, budgets, and the watch on escalations."""
