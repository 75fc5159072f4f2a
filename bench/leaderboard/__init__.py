"""The leaderboard: pure functions from ledger rows to a ranked table and its text.

| file            | content                                                                   |
|-----------------|---------------------------------------------------------------------------|
| ledger.py       | results.csv: rows, digests, which of them are current                     |
| merging.py      | local records against the ledger: new, reproduced, drifted                |
| significance.py | cells.csv and comparisons.csv: intervals and tests, computed from records |
| ranking.py      | average over seeds, rank, margins, badges                                 |
| render.py       | the tables as text                                                        |
| wording.py      | formatting of their cells                                                 |
"""
