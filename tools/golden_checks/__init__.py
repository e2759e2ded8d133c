"""The comparisons of tools/verify_golden.py, one module a kind of golden file."""
