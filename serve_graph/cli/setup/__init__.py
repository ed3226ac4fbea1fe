"""Commands before a graph runs: its configuration, its access keys, its decision store, its Kubernetes manifests."""
