"""Parts that several tests and benchmarks build with."""
