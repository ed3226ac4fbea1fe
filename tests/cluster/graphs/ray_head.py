"""A Ray cluster of one's own with a dashboard, until its standard input closes. Prints the dashboard's address."""

import sys

import ray

if __name__ == "__main__":
    context = ray.init(
        address="local",
        num_cpus=8,
        resources={"serving": 1},  # what workers of that group offer on Kubernetes
        include_dashboard=True,
        dashboard_port=int(sys.argv[1]),
        log_to_driver=False,
    )
    print(f"http://{context.dashboard_url}", flush=True)
    sys.stdin.read()
    ray.shutdown()
