"""The report on runs: reads their files, draws charts and maps, and writes one HTML page."""
