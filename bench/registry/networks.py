"""What the networks of the ledger's rows give: parameters, multiply-adds and sizes of codes.

They follow from the variant, the size of its code and the shape of the images: whoever has bench
can build the network, without weights, images or training.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import Scalar, known_protocols
from bench.core.store import Store
from bench.core.track import REAL_BITS
from bench.data import DATASETS
from bench.execution.operations import multiply_adds
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import CODE_BITS, LedgerRow
from bench.models.zoo import MODELS, build_network
from bench.registry.changes import unchanged
from bench.registry.results import RESULTS, read_results
from bench.registry.verification import Verified

Network = tuple[str, int | None, str, tuple[tuple[str, Scalar], ...]]
"""Variant, latent size, data set, hyperparameters: what the facts follow from."""


@dataclass(frozen=True)
class OfNetworks:
    """What was found: the first wrong fact of each wrong row, and how many rows and networks were
    compared, and how many rows could not be."""

    wrong: tuple[Verified, ...]
    rows: int
    networks: int
    left_out: int

    def __str__(self) -> str:
        left = f"; {self.left_out} rows of other images or revisions are left out"
        return (
            f"{RESULTS}: parameters, multiply-adds and code sizes of {self.rows} rows compared "
            f"with {self.networks} networks, built again{left if self.left_out else ''}"
        )


def compare_networks(store: Store) -> OfNetworks:
    """Build the network of every row of the ledger whose variant has today's revision and whose
    data set is known, and compare the facts that follow from it.

    Raises CheckFailed as `read_results`, and for a row whose network cannot be built.
    """
    with unchanged(store):
        ledger = read_results(store.registry).ledger
    built: dict[Network, Mapping[str, float]] = {}
    wrong: list[Verified] = []
    left_out = 0
    for row in ledger:
        network = _network(row)
        if network is None:
            left_out += 1
            continue
        if network not in built:
            try:
                built[network] = _facts(network)
            except BadInput as error:
                raise CheckFailed(f"registry/{RESULTS}: {row.title}: {error}") from None
        wrong += _wrong(row, built[network])
    return OfNetworks(tuple(wrong), len(ledger) - left_out, len(built), left_out)


def _network(row: LedgerRow) -> Network | None:
    """What to build; None if bench has another revision now, or does not know the images."""
    known = MODELS.get(row.model)
    if known is None or known.revision != row.model_revision or row.dataset not in DATASETS:
        return None
    if row.hyperparameters:
        given = _read(row)
    else:  # it has none, or is older than the column: those of its protocol
        protocols = (each for each in known_protocols() if each.name == row.protocol)
        given = next((each.hyperparameters.get(row.model, {}) for each in protocols), {})
    return row.model, row.latent_dim, row.dataset, tuple(given.items())


def _read(row: LedgerRow) -> Mapping[str, Scalar]:
    """The hyperparameters that a row names, as `ledger.hyperparameters_of` writes them."""
    texts = dict(pair.split("=", 1) for pair in row.hyperparameters.split(", ") if "=" in pair)
    found: dict[str, Scalar] = {}
    for name, text in texts.items():
        match MODELS[row.model].hyperparameters.get(name):
            case bool():
                found[name] = text == "yes"
            case int() | float() as default:
                try:
                    found[name] = type(default)(text)
                except ValueError:
                    found[name] = text
            case _:
                found[name] = text
    return found


def _facts(network: Network) -> dict[str, float]:
    """The facts of a network, in the digits of the ledger."""
    name, size, dataset, given = network
    images = DATASETS[dataset]
    model = build_network(name, images.image_shape, size, dict(given), len(images.class_names))
    found = {
        "parameters": float(model.learned_numbers),
        "multiply_adds": multiply_adds(model),
        **model.sizes,
    }
    if "code_size" in found:
        found.setdefault(CODE_BITS, REAL_BITS * found["code_size"])
    return {key: rounded(value) for key, value in found.items()}


def _wrong(row: LedgerRow, found: Mapping[str, float]) -> list[Verified]:
    """The first fact that is otherwise, or left out, if there is one; older rows lack some."""
    says = {name: row.facts[name] for name in _COMPARED if name in row.facts}
    if row.code_size is not None:
        says["code_size"] = float(row.code_size)
    for name, old in says.items():
        new = found.get(name, math.nan)
        if new != old:
            problem = f"{RESULTS}: {name} is {new:.9g} from its network, written down as {old:.9g}"
            what = f"{row.title} ({row.dataset}, {row.protocol})"
            return [Verified(row.run_key, what, name, old, new, problem)]
    return []


_COMPARED = ("parameters", "multiply_adds", "compression_ratio", CODE_BITS)
