"""How good routers are on recorded outcomes: `serve-graph evaluate`.

`held_out` scores prompts nobody was fitted on, `cross_validation` runs it, `figures` works the rows out, `page` and
`plots` show them; `routellm` reads that project's published responses.
"""
