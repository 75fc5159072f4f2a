"""DATASETS: the known image sets, one row each. To add a set, add a row (see bench/README.md)."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.spec import Part
from bench.data.idx import idx_name


@dataclass(frozen=True)
class Dataset:
    """A known set: its content, its source and its licence.

    `counts` are images by part. `sha256` are those of the decompressed IDX files by file name;
    if empty, no digest is pinned and only counts, shape and labels are checked.
    `bundled` sets come with the package. `torchvision` is the torchvision class that downloads the
    set; None: there is no download. `folders` are where else its IDX files may be, such as where a
    package of the operating system puts them.
    """

    id: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: Mapping[Part, int]
    licence: str
    source: str
    sha256: Mapping[str, str]
    torchvision: str | None = None
    folders: tuple[str, ...] = ()
    bundled: bool = False
    foreign: str = ""
    """A bundled set of the same shape, whose images are foreign to this one; empty: none."""


def _pinned(part: Part, images: str, labels: str) -> dict[str, str]:
    """SHA-256 of the decompressed IDX files of one part, by file name."""
    return {idx_name(part, "images"): images, idx_name(part, "labels"): labels}


_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DIGITS = tuple("0123456789")
_GREY_28 = (1, 28, 28)
_MINI: Mapping[Part, int] = {"train": 6_000, "validation": 1_000, "test": 1_000}
_FULL: Mapping[Part, int] = {"train": 60_000, "test": 10_000}
_FASHION_LICENCE = "MIT, Zalando SE (Xiao, Rasul and Vollgraf 2017)"
_MNIST_LICENCE = "CC BY-SA 3.0, Y. LeCun and C. Cortes"
_FASHION_SOURCE = "https://github.com/zalandoresearch/fashion-mnist"
_MNIST_SOURCE = "http://yann.lecun.com/exdb/mnist/"

_ROWS = (
    Dataset(
        id="fashion_mnist_mini",
        foreign="mnist_mini",
        title="8,000 of the pictures of clothes of Fashion-MNIST, equally many of each class",
        class_names=_CLOTHES,
        image_shape=_GREY_28,
        counts=_MINI,
        licence=_FASHION_LICENCE,
        source=_FASHION_SOURCE,
        bundled=True,
        sha256={
            **_pinned(
                "train",
                images="4c6d49149d5f61c6a4b231c73eb530f67143a832edf139dd3b7aeb47ea7b8bbf",
                labels="1ab727d5ea2ccfb0c3aba0de8454bef27510fa357e9f4d202569cd5197d17e2c",
            ),
            **_pinned(
                "validation",
                images="49adc324b823822c5dac0c975b50b88b5cec8b1834e4e8e955caeb5f0c3be10c",
                labels="80ad7e07320bae3532494a975d39b95ebc1af07c199de6b35d7bed896e66ccd5",
            ),
            **_pinned(
                "test",
                images="ae0ddcb37523ca200c3a9f4496118bd401cdd2014887454f2b958fb97e4904ee",
                labels="19e20a76e64109bb9c0019a062487e8b844ff586cae0e6f3b40eff879c93fc66",
            ),
        },
    ),
    Dataset(
        id="mnist_mini",
        foreign="fashion_mnist_mini",
        title="8,000 of the handwritten digits of MNIST, equally many of each class",
        class_names=_DIGITS,
        image_shape=_GREY_28,
        counts=_MINI,
        licence=_MNIST_LICENCE,
        source=_MNIST_SOURCE,
        bundled=True,
        sha256={
            **_pinned(
                "train",
                images="3981f9b2aa64ccf66a0d762c6b7434f20a19ca27b7da2605ce76370309897ac7",
                labels="dd38fe441056e84bc5f75f4b4442e74d505e704294dca1b7688a332f05f3b8c1",
            ),
            **_pinned(
                "validation",
                images="a842b5bd68b8a641000df437b20329f46ea91dd4f265b21a6a296583db3a458e",
                labels="2be8e61682426b6643b10692015c027167dc815861f56507ba36f2b0aac6f11b",
            ),
            **_pinned(
                "test",
                images="4ab099aa645c3885cef4dd5a08cdb73eabd363a93c92f2146be4f98cb92e77dc",
                labels="7a9061e3ab609d27da4402e2bf83916ebb882b296e6ee6e2aaa7787ff43d4ab7",
            ),
        },
    ),
    Dataset(
        id="fashion_mnist",
        foreign="mnist_mini",
        title="70,000 pictures of clothes",
        class_names=_CLOTHES,
        image_shape=_GREY_28,
        counts=_FULL,
        licence=_FASHION_LICENCE,
        source=_FASHION_SOURCE,
        sha256={
            **_pinned(
                "train",
                images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            **_pinned(
                "test",
                images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        },
        torchvision="FashionMNIST",
        folders=("/usr/share/datasets/fashion-mnist",),  # Debian: dataset-fashion-mnist
    ),
    Dataset(
        id="mnist",
        foreign="fashion_mnist_mini",
        title="70,000 handwritten digits",
        class_names=_DIGITS,
        image_shape=_GREY_28,
        counts=_FULL,
        licence=_MNIST_LICENCE,
        source=_MNIST_SOURCE,
        sha256={
            **_pinned(
                "train",
                images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            **_pinned(
                "test",
                images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        },
        torchvision="MNIST",
    ),
    Dataset(
        id="kmnist",
        foreign="fashion_mnist_mini",
        title="70,000 handwritten Japanese characters (Kuzushiji-MNIST)",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        image_shape=_GREY_28,
        counts=_FULL,
        licence="CC BY-SA 4.0, ROIS-DS CODH (Clanuwat et al. 2018)",
        source="https://github.com/rois-codh/kmnist",
        # No digest could be taken from a trusted copy of the decompressed files. A download is
        # checked by torchvision's MD5 of the packed files, any copy by counts, shape and classes.
        sha256={},
        torchvision="KMNIST",
    ),
)

DATASETS: Mapping[str, Dataset] = {row.id: row for row in _ROWS}
