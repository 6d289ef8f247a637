"""Benchmarks: each pits the product against a peer in the same run and prints one line of JSON last."""
