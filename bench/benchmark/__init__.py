"""What there is to run, what it costs, running what is missing, checks, repair."""
