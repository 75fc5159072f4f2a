"""The sweep: Optuna studies that are asked, pruned, told and confirmed by one head."""
