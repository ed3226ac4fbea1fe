"""Replay a workload through a policy over time: `serve-graph simulate`.

`arrivals` draws when requests arrive, `itineraries` which calls each makes, `load` holds what tiers can carry,
`queues` replays it all, `scenario` puts the parts together.
"""
