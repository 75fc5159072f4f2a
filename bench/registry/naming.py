"""Data sets by their content: under which name the tables of a workspace have them, and where they
are. The same images under another name, in another folder or format are the same data set."""

from collections.abc import Iterator
from pathlib import Path

from bench.core.errors import BadInput
from bench.core.identity import own_label
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import DATASETS, ImageSet, dataset_label, dataset_reference, find_dataset, load_set
from bench.data.reading import own_images, read_like
from bench.records.files import read_arrays, survey_records
from bench.registry.results import read_results


def label_here(store: Store, images: ImageSet) -> str:
    """The label of these images in the tables of a workspace: the one that they got first.

    Ids of DATASETS keep their name. Raises CheckFailed for a ledger that was changed by hand.
    """
    if images.name in DATASETS:
        return images.name
    known = (label for label, digest in _labels(store) if digest == images.digest)
    return next(known, dataset_label(images))


def label_of(store: Store, given: str) -> str:
    """The label of a data set given as an id, a label of the tables, csv:PATH, npz:PATH or
    folder:PATH; images at a path are read. Raises BadInput for an unknown one."""
    if given in DATASETS or any(given == label for label, _ in _labels(store)):
        return given
    return label_here(store, load_set(dataset_reference(given)))


def changed_since(store: Store, given: str) -> str:
    """What changed if other images than now were run from a path (csv:PATH, ...); else "".

    In words, with the counts and what to do.
    """
    if given in DATASETS or own_images(given) is None:
        return ""
    reference = dataset_reference(given)
    images = load_set(reference)
    runs = [each for each in survey_records(store.records)[0] if each.spec.dataset == reference]
    if not runs or any(each.spec.data_digest == images.digest for each in runs):
        return ""
    last = max(runs, key=lambda each: each.finished_unix_ms)
    scored = read_arrays(store.records, last)
    parts = (f"{part}/{last.spec.selection_metric}" for part in ("validation", "test"))
    then = int(last.facts["train_images"]) + sum(len(scored.get(part, ())) for part in parts)
    return (
        f"{given} has changed since its last run: {then:,} images then, "
        f"{sum(images.counts.values()):,} now; the earlier table: bench leaderboard --dataset "
        f"{last.spec.dataset_label}"
    )


def _labels(store: Store) -> Iterator[tuple[str, str]]:
    """Label and digest of every data set in the tables, and in local records, oldest first.

    Names that the tables have from versions whose labels had no digits are given theirs.
    """
    for row in read_results(store.registry).ledger:
        label, digest = row.dataset, row.data_digest
        yield label if label in DATASETS else own_label(label, digest), digest
    for record in survey_records(store.records)[0]:
        yield record.spec.dataset_label, record.spec.data_digest


def located(store: Store, spec: RunSpec, given: str = "") -> str:
    """A reference from which the images of a spec can be read on this machine.

    A known set is found by its id. Own images: `given`, read as recorded unless it says how, or the
    recorded path if it still exists, or another path under which a record of this workspace has the
    same images, or where such a path lies now if the workspace was moved. Whoever reads them
    compares their digest. Raises BadInput if there is none.
    """
    if spec.dataset in DATASETS:
        return spec.dataset
    if given:
        return dataset_reference(read_like(given, spec.dataset))
    records = survey_records(store.records)[0]
    same = [each.spec for each in records if each.spec.data_digest == spec.data_digest]
    recorded = list(dict.fromkeys(each.dataset for each in (spec, *reversed(same))))
    for reference in (*recorded, *(moved for each in recorded for moved in _moved(store, each))):
        if _exists(reference):
            return reference
    raise BadInput(
        f"the images of {spec.dataset_label} are not where they were; say where they are: "
        "--dataset folder:PATH, npz:PATH or csv:PATH"
    )


def _moved(store: Store, reference: str) -> Iterator[str]:
    """Where images of a workspace that was moved can be: the end of their recorded absolute path,
    as much of it as there is, below this workspace. Records of schema 1 have no relative paths."""
    kind, _, path = reference.partition(":")
    parts = Path(path).parts
    for start in range(1, len(parts)):
        yield f"{kind}:{store.root.joinpath(*parts[start:])}"


def _exists(reference: str) -> bool:
    try:
        place = find_dataset(reference)
    except BadInput:
        return False
    return reference in DATASETS or Path(place).exists()
