"""Shared foundations: errors, names, protocols, run specifications, the store, locks."""
