"""The committed results: only this package writes `registry/` and MLflow's Model Registry.

| file            | content                                                                |
|-----------------|-----------------------------------------------------------------------|
| results.py      | results.csv, cells.csv, comparisons.csv: read, merge, write, check    |
| publishing.py   | tables, pictures, the README's block: rendered, written, checked      |
| cards.py        | card.json of a champion          card_text.py  card.md, rendered from it |
| champions.py    | the folders of champions: installed, swapped back, checked, loaded    |
| promotion.py    | choosing champions, and rollback                                       |
| mirror.py       | champions in MLflow's Model Registry                                   |
| verification.py | scores recomputed from weights                                         |
"""

from bench.registry.champions import load_champion, load_classifier

__all__ = ["load_champion", "load_classifier"]
