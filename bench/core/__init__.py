"""Nouns that travel and the ground they stand on: errors, names, protocol, spec, store, locks."""
