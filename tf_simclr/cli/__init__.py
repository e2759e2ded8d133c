"""The command line: flags, gin files, help, and what a run prints at its end."""
