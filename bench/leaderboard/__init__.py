"""The leaderboard: pure functions from ledger rows to ranked tables, as sections of pages.

| file            | content                                                                    |
|-----------------|----------------------------------------------------------------------------|
| csv_rows.py     | rows of the CSV files: frozen dataclasses, text only in the files          |
| ledger.py       | results.csv: LedgerRow, and which rows are current                         |
| merging.py      | local records against the ledger: new, reproduced, better, drifted         |
| seeds.py        | whether a cell has the seeds of its protocol, and how wide its mean is     |
| spread.py       | how far the seeds of a cell lie apart                                      |
| steps.py        | which trainings were short                                                 |
| pair_tests.py   | whether two rows differ: seeds and images, the prior of their variances    |
| statistics.py   | levels, intervals, Holm's correction, draws, stability, from scores        |
| competitions.py | which rows are compared with each other, and why a row has no rank         |
| significance.py | cells.csv and comparisons.csv, computed from scores per image              |
| cells.py        | TableCell: a row of a shown table                                          |
| badges.py       | notes on such a row                                                        |
| ranking.py      | averages over seeds, ranges of ranks, margins, the order of the tables     |
| simulation.py   | tables with known truths, and how the tests do in them                     |
| calibration.py  | calibration.csv: the outcome of simulations, and its section               |
| render.py       | the tables as sections                                                     |
| task_boards.py  | the boards of further tasks as sections                                    |
| published.py    | what others published on the same data, beside our best rows               |
| rules.py        | how to read a row, and the rules                                           |
| origins.py      | published figures against ours                                             |
| wording.py      | formatting of their cells                                                  |
"""
