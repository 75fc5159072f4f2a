"""The leaderboard: pure functions from ledger rows to ranked tables, as sections of pages.

| file            | content                                                                   |
|-----------------|---------------------------------------------------------------------------|
| csv_rows.py     | rows of the CSV files: frozen dataclasses, text only in the files         |
| ledger.py       | results.csv: LedgerRow, and which rows are current                        |
| merging.py      | local records against the ledger: new, reproduced, drifted                |
| seeds.py        | whether a cell has the seeds of its protocol, and how wide its mean is    |
| significance.py | cells.csv and comparisons.csv: intervals and tests, computed from records |
| ranking.py      | TableCell: average over seeds, rank, margins, badges                      |
| render.py       | the tables as sections                                                    |
| origins.py      | published figures against ours                                            |
| wording.py      | formatting of their cells                                                 |
"""
