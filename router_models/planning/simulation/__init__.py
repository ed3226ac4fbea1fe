"""Replay a workload through a policy over time: `serve-graph simulate`.

`arrivals` says when requests come, `itineraries` which calls each makes, `load` what tiers can carry, `queues` plays
it all out, `scenario` puts the parts together.
"""
