"""Measurements for developers: `python -m benchmarks SUBCOMMAND`, one module per subcommand."""
