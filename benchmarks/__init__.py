"""Each figure of docs/benchmarks.md, as a ratio against something measured in the same run."""
