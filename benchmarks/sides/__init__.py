"""The programs that `python -m benchmarks end_to_end` times, each run as a process of its own.

Each runs under the interpreter of its side, so these modules import nothing that it may lack.
"""
