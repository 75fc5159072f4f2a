"""One row of a shown table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.tasks import is_reference
from bench.core.track import REAL_BITS, Track
from bench.leaderboard.csv_rows import cell_text
from bench.leaderboard.ledger import CODE_BITS, BoardKey
from bench.leaderboard.spread import loss_at_8_bits

Ends = tuple[float, float]

UNKNOWN: Ends = (math.nan, math.nan)


@dataclass(frozen=True)
class TableCell:
    """One row of a shown table: a cell of the ledger, averaged over its finished runs.

    `row` is its name within its track, `title` the name of its track in commands. `started`,
    `finished` and `diverged` count runs. `wide`: at the most seeds of its protocol, its mean is not
    known as well as wanted. `facts` (medians of times, else means), `means` and
    `deviations` (standard deviations over seeds) are by column of the ledger; NaN: no run has it.
    `hyperparameters`: the variant's own, as in the ledger. `seed_spread`: by which share the
    highest error of its seeds on validation is above the lowest, as the selection metric has it.
    `margin`: how much lower the test MSE is than PCA's, in %. `interval`, `test_interval`: 95 %
    of the selection metric over seeds and images, on validation and on test. `ranks`: the lowest
    and the highest rank that the comparisons leave it, among `among` rows, None where
    `why_unranked` says why there are none. `in_protocol`: its protocol names it; ranks are among
    such rows, and another row has those that it would have among them. `best_share`: in which share
    of draws of seeds and images it has the lowest error; `first_in_halves`, of the first such row:
    in how many of HALVES random halves of the validation images it stays first.
    """

    board: BoardKey
    selection_metric: str
    track: Track
    model: str
    size_name: str
    recipe: str
    configuration: str
    closed_form: bool
    code_size: int | None
    row: str
    title: str
    rows_digest: str
    why_unranked: str
    started: int
    finished: int
    diverged: int
    seeds: tuple[int, ...]
    facts: Mapping[str, float]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    hyperparameters: str = ""
    seed_spread: float = math.nan
    margin: float = math.nan
    wide: bool = False
    badges: tuple[str, ...] = ()
    interval: Ends = UNKNOWN
    test_interval: Ends = UNKNOWN
    in_protocol: bool = True
    ranks: tuple[int, int] | None = None
    best_share: float = math.nan
    first_in_halves: int | None = None
    among: int = 0

    def mean(self, column: str) -> float:
        """The mean score of a column such as `test_mse`; NaN: no run has it."""
        return self.means.get(column, math.nan)

    def has(self, column: str) -> bool:
        """Whether a run has the score of a column."""
        return not math.isnan(self.mean(column))

    @property
    def loss_at_8_bits(self) -> float:
        """By which share the error on validation rises at 8 bits per number of the code; NaN:
        unknown, or no code of real numbers."""
        return loss_at_8_bits(self.means, self.selection_metric)

    @property
    def code_bits(self) -> float:
        """Bits of the code as it is sent; NaN: unknown."""
        if not math.isnan(known := self.facts[CODE_BITS]):
            return known
        if self.track.kind == "real":
            return float(REAL_BITS * (self.code_size or 0))
        return float(self.track.size) if self.track.kind == "bits" else math.nan

    @property
    def is_pca(self) -> bool:
        """Whether it is the row that margins are over, if its track has one."""
        return is_reference(self.model) and self.recipe == "default"

    @property
    def may_be_best(self) -> bool:
        """Whether no row is significantly better."""
        return self.ranks is not None and self.ranks[0] == 1

    @property
    def badge_text(self) -> str:
        """Its badges in one line."""
        return "; ".join(self.badges)

    def columns(self) -> dict[str, str | int | float]:
        """Its values by column, for frames and JSON; unknown numbers are NaN."""
        scores = {
            name: value
            for column, mean in self.means.items()
            for name, value in ((column, mean), (f"{column}_std", self.deviations[column]))
        }
        return {
            **self.board._asdict(),
            "selection_metric": self.selection_metric,
            "track": str(self.track),
            "model": self.model,
            "latent_dim": self.size_name,
            "recipe": self.recipe,
            "hyperparameters": self.hyperparameters,
            "configuration": self.configuration,
            "closed_form": cell_text(self.closed_form),
            "code_size": cell_text(self.code_size),
            "row": self.row,
            "title": self.title,
            "rows_digest": self.rows_digest,
            "why_unranked": self.why_unranked,
            "started": self.started,
            "finished": self.finished,
            "diverged": self.diverged,
            "seeds": ",".join(map(str, self.seeds)),
            **self.facts,
            **scores,
            "seed_spread": self.seed_spread,
            "margin": self.margin,
            "badges": self.badge_text,
            **dict(zip(("low", "high"), self.interval, strict=True)),
            **dict(zip(("test_low", "test_high"), self.test_interval, strict=True)),
            **dict(zip(("rank_low", "rank_high"), self.ranks or UNKNOWN, strict=True)),
            "may_be_best": cell_text(self.may_be_best),
            "best_share": self.best_share,
            "first_in_halves": cell_text(self.first_in_halves),
            "in_protocol": cell_text(self.in_protocol),
        }
