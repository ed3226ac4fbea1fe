"""What watches a graph from outside: recording and alert rules for Prometheus, dashboards for Grafana."""
