"""A graph's configuration as Kubernetes objects: what `serve-graph manifests` prints, and `k8s/overlays` hold.

Everything here is pure: a configuration in, plain dicts out. KubeRay's RayService runs the graph; the objects that no
configuration changes (databases, network policies, monitoring) are written by hand in `k8s/base`.
"""
