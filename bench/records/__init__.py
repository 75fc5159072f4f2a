"""Durable result records on disk, and which of several seeds stands for a row."""
