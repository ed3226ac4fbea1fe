"""Both tiers on a sample of requests: they answer at the same time, and a judge or a verifier model picks."""
