"""What takes minutes and bears others beside it: run in a thread of its own, and judged by the tests of its name."""
