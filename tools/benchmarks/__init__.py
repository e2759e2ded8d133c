"""The measurements of tools/benchmark.py, one module a subcommand, and the frame they share."""
