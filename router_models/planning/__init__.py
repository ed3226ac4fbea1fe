"""Plan routing: whether to route between two tiers, how, and at what cost (`serve-graph plan`).

`workload` and `traffic_mix` hold the data, `patterns` the ways of routing, `expected` and `what_if` their figures,
`labels` the number of labels a certificate needs, `recommendation` the rules, `plan` the whole answer, `page` its
Markdown.
"""
