"""The comparisons of tools/verify_golden.py, one module per kind of golden file."""
