"""The data set `example_bench.clothes`: IDX files that come with the package."""

from pathlib import Path

from bench.data import Dataset

CLOTHES = Dataset(
    id="clothes",
    title="60 pictures of trousers and ankle boots from Fashion-MNIST",
    class_names=("Trouser", "Ankle boot"),
    image_shape=(1, 28, 28),
    counts={"train": 48, "test": 12},
    licence="MIT, Zalando SE (Xiao, Rasul and Vollgraf 2017)",
    source="https://github.com/zalandoresearch/fashion-mnist",
    sha256={},
    folders=(str(Path(__file__).parent / "clothes"),),
)
