"""Measurements for developers: `python -m benchmarks SUBCOMMAND`, a module for each subcommand."""
