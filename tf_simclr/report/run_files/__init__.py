"""Reads the files of runs, and sums them up as charts, verdicts and tables."""
