"""Should two tiers be routed between, how, and what would it take? `serve-graph plan`.

`workload` and `traffic_mix` hold what is reasoned about, `patterns` the ways of routing, `expected` and `what_if`
their figures, `labels` the price of proof, `recommendation` the rules, `plan` the whole answer, `page` its Markdown.
"""
