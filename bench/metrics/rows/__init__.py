"""The rows of METRICS of further tasks, one file per task."""
