"""What takes how long; ``python -m benchmarks --help`` lists the benchmarks."""
