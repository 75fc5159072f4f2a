"""The explanatory part of registry/README.md: how to read a row, and the rules.

The numbers in the text are the constants used by the code. Its lines are as long as
those of a Markdown table have to be.
"""
# ruff: noqa: E501

import re
from itertools import takewhile

from bench.core.recipes import LEAST_STEPS
from bench.core.seeds import LEAST_SEEDS
from bench.core.track import REAL_BITS
from bench.leaderboard.badges import COLLAPSED_SHARE, CONSTANT_SHARE
from bench.leaderboard.competitions import MOST_FAILURES
from bench.leaderboard.merging import CLOSED_FORM_TOLERANCE
from bench.leaderboard.pair_tests import LEAST_ROWS
from bench.leaderboard.spread import TOO_MUCH, WIDE_SPREAD, WORTH_A_NOTE
from bench.leaderboard.statistics import ALPHA, DRAWS, LEVEL
from bench.leaderboard.steps import LARGEST_FALL
from bench.metrics import METRICS, Tolerance


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


RULES = f"""## How to read a row

- **ranks**: the rows of a table stand in the order of their mean validation score. A row's *range of ranks* begins at one plus
  the number of rows that are significantly better and ends at the number of rows minus those that are significantly worse: the
  ranks that the comparisons leave it. A row whose range begins at 1 "may be the best". No range: the notes say why.
- **variant**: the model of [bench/models/zoo.py](../bench/models/zoo.py) with the recipe that all share; "native" is the code
  size of its origin, "tuned (n trials)" a recipe that was searched for, which is a row of its own. What belongs to the variant
  alone (`beta`, a penalty's weight, noise) stands first in its notes; runs from before this column have none. `beta` is the
  effective one in every variational row: the weight of the KL term beside the squared errors summed over pixels.
- **validation** and **test** scores: one value per image on [0, 1] images, averaged over images and then over seeds;
  ± is the standard deviation over seeds. Lower is better for MSE and MAE, higher for PSNR and SSIM.
  Of classifiers: higher is better for accuracy, precision, recall and F1, lower for cross-entropy and calibration error.
  Macro scores and the calibration error are of all images at once, averaged over seeds; 0/0 counts as 0.
  Ranking and promotion never look at test.
- **{_percent(LEVEL)} interval** of the validation score: where it would lie with other seeds and other images.
- **best in**: in what share of {DRAWS:,} draws of other seeds and other images the row has the best score of its table.
- **over PCA**: (PCA's test MSE − the row's) / PCA's. Positive is better than the best linear autoencoder of that code size.
- **active**: how many numbers of the code vary over validation images (variance above 0.01), averaged over seeds, of how many. Real
  codes only. The threshold suits codes that are drawn towards N(0, I); others have any scale.
- **bits**: of a code as it is sent: {REAL_BITS} for each real number; a discrete code says how many it needs. **At 8, 4 and 2 bits**: the score
  where each number of the code is one of 2^8, 2^4 or 2^2 values, equally spaced between its 0.1 % and its 99.9 % quantile over the
  training codes. Real codes only; runs from before these columns have none.
- **started / finished / diverged**: runs. Solved variants (`mean_image`, `pca`) need one: no seed changes them.
- **parameters**: the numbers that training learns, or that solved variants solve for; **multiply-adds**: of encoding and decoding
  one image, or of classifying it; **training**: the median time of a seed on the machine that ran it (device, threads and versions stand in
  results.csv).

A protocol may measure the same rows by further tasks. Each task is a table of its own: it is ordered by one of its
metrics, and has ranges of ranks by the same rule; champions are chosen by the ranking alone. A metric with one value per image
is compared over seeds and images; one with a single value for all images over seeds alone, and the table says so. Costs are
those of the machine that scored the run, and are neither compared nor verified. Tables
show the most important measures; all of them: `bench leaderboard --task TASK --wide`, [index.html](index.html),
[results.csv](results.csv). Below the rows stands what they are to be compared with: *real images* in place of samples, and
*the mean image* as every sample.

Notes that a row may wear:

| note | when |
|---|---|
| worse than PCA | its test MSE is above that of PCA at the same code size |
| collapsed latent | fewer than {_percent(COLLAPSED_SHARE)} of the code's numbers vary over images (variance above 0.01) |
| constant output | its reconstructions vary less than {_percent(CONSTANT_SHARE)} as much over images as the most varied of its table |
| n classes never predicted | a classifier calls no validation image one of these, averaged over seeds |
| n codes never used | of the discrete codes that the network may choose among, over all validation images, averaged over seeds |
| over-complete | the code holds at least as many numbers as the image has |
| needs more than 8 bits per number | at 8 bits per number of its code its validation error is more than {_percent(WORTH_A_NOTE)} higher; honest codes lose about 0.1 % |
| few steps | a seed was trained for fewer than {LEAST_STEPS} steps, or, at a constant rate, its validation error still fell by more than {_percent(LARGEST_FALL)} in the last tenth |
| seeds differ by more than {_percent(WIDE_SPREAD)} | the highest mean validation error of its seeds is so much above the lowest; of SSIM and accuracy what is missing to 1, of PSNR the squared error that it stands for |
| width not reached | it has the most seeds of its protocol, and its mean is still known less well than wanted |
| n of m diverged | so many runs ended in numbers that are not finite |
| probe not converged | of the board of representation: a fit of a linear probe used all of its steps |
| AUROC below .5 | of the board of robustness: its error is larger on its own images than on those of another data set |
| samples of a sampler no better than the mean image | of the board of generation: their FCD is at or above that of the mean training image, repeated |
| memorised samples of a sampler | of the board of generation: more than 90 % of the samples are nearer to a training image than this one is to its own nearest other training image |
| n images in two parts | so many validation and test images are exact copies of one in an earlier part |
| best of n trials | a study of n trials found no recipe that did better in its search: the default is its winner |

## The rules

1. The test images are looked at once, after training. They are encoded by one process and decoded by another, which gets the code and
   the weights and nothing else; a code is as many float32 numbers (or whole numbers) as the row says. Training, choice of the best epoch, tuning, ranking and promotion
   see train and validation only.
2. Rows are compared within a table only: same data, same protocol fingerprint, same metrics, same code size
   (of classifiers: as many classes).
3. A trained row needs exactly the seeds of its protocol's list, at least {LEAST_SEEDS}, or a complete prefix 0, 1, 2, ... of adaptive
   seeds. These are added while the {_percent(LEVEL)} interval of the mean over seeds is too wide, which looks at its width alone and so
   favours no row. If more than {_percent(MOST_FAILURES)} of its runs failed, it has no rank.
   A row whose validation error rises by more than {_percent(TOO_MUCH)} at 8 bits per number has none either: its code holds more numbers than it says.
4. Rows are compared in the logarithm of the mean error (of 1 − s for SSIM and accuracy; PSNR as it is), so that differences
   are relative. Both rows are scored on the same images; their seeds have nothing to do with each other. A difference is held
   against the Behrens-Fisher distribution: a normal term for the choice of images, from the paired scores, and for each row a
   t term for the choice of seeds. The variance over seeds of a row is drawn towards what is usual for the trained rows of its table
   (Smyth 2004; from {LEAST_ROWS} such rows on), because three seeds alone say little about it. Solved rows have no seed term.
   Two rows differ if p, after Holm's correction over all pairs of the rows that the protocol names, is below {ALPHA}. Tuned rows,
   and variants that the protocol does not name, are compared with these in a second family, and change none of their ranges.
   Why this test and not one of its two parents: [below](#how-often-the-rule-is-wrong).
5. The champion of a table is its best row on validation; it is replaced only by a row that is significantly better.
   `mean_image`, over-complete codes and protocols that are not ranked cannot be champion; `pca` can. The weights kept
   are those of the seed with the median validation score. "Significantly" is as in rule 4.
6. A row names the commit and the digest of bench/ (its Python and TOML files) that made it. In the tables committed with
   bench, rows that were made with uncommitted changes of bench/ have no rank until exactly these changes are committed.
7. A run stands in the ledger once. When it is repeated, it counts as reproduced if its validation and its test
   score are within {_percent(Tolerance().run)} of the committed ones ({_percent(CLOSED_FORM_TOLERANCE)} for solved rows), of
   accuracies within {METRICS["accuracy"].tolerance.run:g}, whatever their size. The committed row stays. A run that differs by more and is nowhere worse
   is reported as better than the committed run; any other as drift, and nothing is written.

## Files

| file | content |
|---|---|
| [results.csv](results.csv) | the ledger: one row per run, with seed, digests, versions, all scores and costs |
| [cells.csv](cells.csv) | a {_percent(LEVEL)} interval for each row of the tables, on validation (`val`) and on test |
| [comparisons.csv](comparisons.csv) | all pairs of each table: difference of the logarithms, interval, p, Holm-corrected p |
| [scores.csv](scores.csv), `scores/` | the scores per image that these are computed from (float16, digested), with training curves and small pictures: a file for each row that has them; a table whose scores are missing keeps its comparisons and cannot be compared anew |
| [calibration.csv](calibration.csv) | how the rule did in simulated tables (`bench simulate-ranks --write`) |
| [origins.md](origins.md) | the figures that the origins published, beside our runs of their own recipes |
| `<data set>/<protocol>.<track>/` | the champion: weights, card, pictures; `previous/` holds the one before |

Each row of these CSV files ends in a digest of its other cells. `bench leaderboard --check` proves all of this page from
these files, and the comparisons from the scores; `bench verify` computes a champion's scores again from its weights.
"""


def _reasons() -> dict[re.Pattern[str], str]:
    """The table of notes in RULES: a pattern for each note, and when a row wears it."""
    lines = RULES[RULES.index("| note | when |") :].splitlines()[2:]
    found = {}
    for line in takewhile(lambda line: line.startswith("|"), lines):
        note, when = (part.strip() for part in line.strip("|").split("|"))
        found[re.compile(re.sub(r"\b[nm]\b", r"[0-9.e+]+", re.escape(note)))] = when
    return found


_REASONS = _reasons()


def reason(badge: str) -> str:
    """When a row wears a badge, as the table of notes says it (Markdown); "" for another text."""
    return next((when for note, when in _REASONS.items() if note.fullmatch(badge)), "")
