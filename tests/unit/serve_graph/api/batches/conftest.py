from tests.unit.serve_graph.cluster.batches.conftest import graph as graph
