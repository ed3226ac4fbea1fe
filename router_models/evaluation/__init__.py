"""Evaluate routers on recorded outcomes: `serve-graph evaluate`.

`held_out` scores prompts that a router was not fitted on, `cross_validation` runs it, `figures` computes the rows,
`page` and `plots` show them; `benchmarks.routellm` reads that project's published responses.
"""
