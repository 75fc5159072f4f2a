"""What MLflow is told: the only package that imports mlflow (besides the model file it serves).

The head process alone comes here. Training never waits for tracking: time-outs are short, a
failure is said once, and `bench sync` tells MLflow later what it missed from the records on disk.

| file         | room                                                             | mlflow |
|--------------|------------------------------------------------------------------|--------|
| quiet.py     | environment that MLflow reads when it is imported                 | no     |
| address.py   | which store is meant, and whether it answers                      | no     |
| database.py  | the local SQLite file: made once, probed, moved with its folder   | yes    |
| content.py   | what a run says: parameters, tags, metrics, description           | no     |
| views.py     | the saved views and deep links into the web interface             | no     |
| owners.py    | which process a run belongs to, and whether it lives              | no     |
| server.py    | MLflow's web interface on this machine, ended with its children   | yes    |
| pictures.py  | figures and image grids as files of a run                         | yes    |
| writing.py   | one run: created or found again, written, ended                   | yes    |
| experiment.py| the experiment of a protocol: found or made                       | yes    |
| models.py    | the servable model of a cell                                      | yes    |
| versions.py  | versions and aliases in MLflow's Model Registry                   | yes    |
| tracker.py   | Tracker: buffers, and the policy when MLflow does not answer      | yes    |
| mending.py   | what kills and moved folders leave behind                         | yes    |
"""

import importlib
from typing import TYPE_CHECKING, Any

from bench.tracking import quiet  # it sets what mlflow reads while it is imported

if TYPE_CHECKING:
    from bench.tracking.tracker import SyncReport, Tracker, open_tracker
    from bench.tracking.versions import clear_alias, register_version

__all__ = [
    "SyncReport",
    "Tracker",
    "clear_alias",
    "open_tracker",
    "quiet",
    "register_version",
]
_ROOMS = {
    "SyncReport": "tracker",
    "Tracker": "tracker",
    "open_tracker": "tracker",
    "clear_alias": "versions",
    "register_version": "versions",
}


def __getattr__(name: str) -> Any:
    """Import late: the web interface needs neither torch nor the figures (600 MB of memory)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"bench.tracking.{_ROOMS[name]}"), name)
