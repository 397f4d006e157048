"""The exactly-once engine: tasks, state, commits, recovery. Knows no domain rule and no broker client."""
