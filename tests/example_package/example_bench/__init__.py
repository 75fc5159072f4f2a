"""A model, a data set and a metric for bench, each an entry point of this package."""
