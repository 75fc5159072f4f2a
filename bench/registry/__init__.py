"""The committed results: only this package writes `registry/` and MLflow's Model Registry.

| file            | content                                                               |
|-----------------|-----------------------------------------------------------------------|
| results.py      | results.csv, cells.csv, comparisons.csv: read, merge, write           |
| checking.py     | these tables against each other and against the scores                |
| scores.py       | scores.csv, and the files with the scores per image                   |
| score_files.py  | what such a file holds                                                |
| calibration.py  | the rule of the tables in simulated ones                              |
| publishing.py   | local records and the tables: shown, written, checked                 |
| pages.py        | tables, pictures, the web page, the README's block: rendered          |
| comparing.py    | rows of some variants beside each other                               |
| differing.py    | the images that two rows differ on most                               |
| exhibits.py     | what the web page shows of a row beside the tables                    |
| frames.py       | all runs and the tables as frames, for the Python API                 |
| cards.py        | card.json of a champion                                               |
| card_text.py    | card.md, rendered from it                                             |
| changes.py      | one writer at a time; a change is put in place whole                  |
| champions.py    | the folders of champions: found, checked                              |
| installation.py | the same, written: a new champion, a renewed card, the previous one   |
| loading.py      | their networks, rebuilt from card and weights                         |
| promotion.py    | choosing champions, and rollback                                      |
| features.py     | feature networks, pinned once and never replaced                      |
| mirror.py       | champions in MLflow's Model Registry                                  |
| verification.py | scores recomputed from weights                                        |
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.registry.loading import load_champion, load_classifier

__all__ = ["load_champion", "load_classifier"]


def __getattr__(name: str) -> Any:
    """Import late: the tables need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module("bench.registry.loading"), name)
