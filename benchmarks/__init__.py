"""Speed, memory and accuracy, measured; ``python -m benchmarks --help`` lists the benchmarks."""
