"""Fault injection: `make faults`, or `python -m tests.faults [--short] [--only NAME] [--seed N]`.

Seven campaigns against real commands in small workspaces with real runs. It prints how many tries
were made and what they found; every failure is listed with the command that repeats it.

| campaign | file       | tries                                                                  |
|----------|------------|------------------------------------------------------------------------|
| kills    | kills.py   | SIGKILL at random moments: head, group of processes, or a worker; also |
|          |            | beside a live MLflow store                                             |
| calls    | fails.py   | every changing call fails: disk full, I/O error, kill (`calls.py`)     |
| blocked  | blocked.py | folders in the place of lock files                                     |
| files    | files.py   | every kind of file damaged (`damage.py`) and read                      |
| flips    | files.py   | single bits of sealed files                                            |
| names    | names.py   | hostile names in every place where one is given or read                |
| races    | races.py   | two writers at once, and a reader beside a writer                      |

Commands run in forked processes (`forked.py`), in copies of workspaces made once (`workspaces.py`,
`jobs.py`); `ground.py` judges their output and what they leave. Every address holds a password,
which is searched for in all outputs and files.
"""
