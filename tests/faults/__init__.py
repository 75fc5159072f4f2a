"""Fault injection: `make faults`, or `python -m tests.faults [--short] [--only NAME] [--seed N]`.

Six campaigns against real commands in small workspaces with real runs: random kills, calls that
fail, mutated files, flipped bits, hostile names, and races. It prints how many tries were made and
what they found; every failure is listed with the command that repeats it.
"""
