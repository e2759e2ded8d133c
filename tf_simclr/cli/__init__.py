"""The command line: flags, gin files, help, and the summary at the end of a run."""
