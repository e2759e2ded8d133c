"""Makes the networks of whole runs in this process shallow."""

from small import shallow  # noqa: F401 (a fixture that all tests of this folder use)
