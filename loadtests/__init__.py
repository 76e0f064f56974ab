"""Load scenarios, the benchmark, and the fresh server that both run against."""
