"""Planning runs, forecasting their cost, running what is missing, checks and repair."""
