"""What learning from live traffic costs a graph (`python -m benchmarks.learning`), and what signals are worth."""
