"""The committed results: the only writer of `registry/` and of MLflow's Model Registry.

| file            | room                                                                  |
|-----------------|-----------------------------------------------------------------------|
| results.py      | results.csv, cells.csv, comparisons.csv: read, merge, write, check    |
| publishing.py   | tables, pictures, the README's block: rendered, written, checked      |
| cards.py        | card.json of a champion          card_text.py  card.md, rendered from it |
| champions.py    | the folders of champions: installed, swapped back, checked, loaded    |
| promotion.py    | who is champion: decided and carried out; rollback                    |
| mirror.py       | what MLflow's Model Registry is told                                  |
| verification.py | rows recomputed from weights                                          |
"""

from bench.registry.champions import load_champion, load_classifier

__all__ = ["load_champion", "load_classifier"]
