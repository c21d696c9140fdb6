"""Benchmarks on real components: `make bench-<name>` runs one, prints a table and writes build/bench/<name>.json."""
