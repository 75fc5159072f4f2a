"""Durable results on disk, and which of several seeds represents a row."""
