"""Hyperparameter search: Optuna studies, run by one or more heads, and their winners."""
