"""Compare the two versions of a rollout on live requests, off their path: who would have answered, and how well."""
