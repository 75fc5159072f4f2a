"""One look per variant, the same in every figure, in every chart of MLflow and on the page.

A look is a colour, a marker and a line style. No two variants share marker and line style, so they
differ in grey print, too. The colours are Okabe and Ito's (2008), then those farthest from all
previous ones in CIELAB, for normal vision and for protanopia and deuteranopia (Machado, Oliveira
and Fernandes 2009); none is too light for white paper. Looks are assigned by name, so
that a new variant changes no other's.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SOLID, DASHED, DOTTED = "-", "--", ":"


@dataclass(frozen=True)
class Look:
    """`colour` as #RRGGBB, `marker` and `line` in matplotlib's notation (no marker: "")."""

    colour: str
    marker: str
    line: str = SOLID


LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        # The baselines: lines without markers, in black and grey.
        "pca": Look("#222222", "", DASHED),
        "mean_image": Look("#7F7F7F", "", DOTTED),
        "fc_ae": Look("#0072B2", "o"),
        "deep_ae": Look("#D55E00", "s"),
        "cnn_ae": Look("#009E73", "^"),
        "vae": Look("#CC79A7", "D"),
        "rnn_ae": Look("#E69F00", "v"),
        "conv_baseline_ae": Look("#56B4E9", "P"),
        "conv_modified_ae": Look("#2D1E96", "X"),
        "tapered_ae": Look("#B4C369", "*"),
        "conv_bn_ae": Look("#E1003C", "<"),
        "mlp_ae": Look("#3C4B00", ">"),
        "sparse_ae": Look("#D23CFF", "d"),
        "denoising_ae": Look("#5A1E5A", "o", DASHED),
        "contractive_ae": Look("#96C3A5", "s", DASHED),
        "beta_vae": Look("#A50087", "D", DASHED),
        "conv_vae": Look("#962D4B", "^", DASHED),
        "wae_mmd": Look("#5A2DE1", "v", DASHED),
        "rae": Look("#005AC3", "P", DASHED),
        "res_ae": Look("#0000FF", "X", DASHED),
        "vq_vae": Look("#87784B", "*", DASHED),
        "mlp_classifier": Look("#5A2D1E", "<", DASHED),
        "cnn_classifier": Look("#00C3D2", ">", DASHED),
    }
)

_SPARE = tuple(
    Look(colour, marker, DOTTED)
    for colour in ("#78A5FF", "#4BD22D", "#D2B487", "#B4963C", "#00695A", "#A569D2", "#9687C3")
    for marker in ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "d")
)


def look(model: str) -> Look:
    """The look of a variant; one without a row above gets a spare look, chosen by its name."""
    return LOOKS.get(model) or _SPARE[zlib.crc32(model.encode()) % len(_SPARE)]
