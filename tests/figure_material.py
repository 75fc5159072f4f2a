"""What a run leaves behind, made of photographs and their PCA, for tests of figures."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bench.core.protocol import EvaluationConfig, SplitConfig, TrainConfig
from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.figures.style import Arrays

EPOCHS = 4
CLASSES = ("sky and grass", "coat", "tripod", "a class with a very long name")


def crops(photo: NDArray[np.uint8], side: int, step: int) -> NDArray[np.float32]:
    windows = sliding_window_view(photo, (side, side), axis=(0, 1))[::step, ::step]
    return (windows.reshape(-1, photo.shape[2], side, side) / 255).astype(np.float32)


def arrays_of(images: NDArray[np.float32], code_size: int) -> Arrays:
    """What a run leaves behind, with PCA as the model and the images as every part."""
    count, shape = len(images), images.shape[1:]
    flat = images.reshape(count, -1)
    mean = flat.mean(0)
    basis = np.linalg.svd(flat - mean, full_matrices=False)[2][:code_size]
    codes = (flat - mean) @ basis.T

    def decoded(z: NDArray[np.float32]) -> NDArray[np.float32]:
        flat_output = np.clip(z @ basis[: z.shape[-1]] + mean, 0, 1)
        return flat_output.reshape(*z.shape[:-1], *shape).astype(np.float32)

    x_hat = decoded(codes)
    errors = ((images - x_hat) ** 2).mean((1, 2, 3))
    chosen = np.concatenate([np.argsort(errors)[:8], np.argsort(-errors)[:8]])
    labels = np.arange(count) % len(CLASSES)
    shown = {"x": images[:8], "x_hat": x_hat[:8], "label": labels[:8], "score": errors[:8]}
    ends = codes[:8].reshape(4, 2, 1, code_size)
    weights = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
    found: dict[str, NDArray] = {
        "test/mse": errors,
        "validation/mse": errors,
        "test/ssim": 1 - 5 * errors,
        "label/test": labels,
        "label/validation": labels,
        "progress/x": images[:8],
        "progress/x_hat": np.stack([decoded(codes[:8, : 1 + i]) for i in range(code_size)]),
        "progress/epoch": np.arange(1, code_size + 1),
        "codes/z": codes,
        "codes/label": labels,
        "samples/x_hat": decoded(codes[-64:]),
        "samples/fitted": np.array([1]),
        "samples/standard_x_hat": decoded(codes[:32] / codes.std(0)),
        "interpolation/x": images[:8].reshape(4, 2, *shape),
        "interpolation/x_hat": decoded(ends[:, 0] * (1 - weights) + ends[:, 1] * weights),
        "extremes/x": images[chosen],
        "extremes/x_hat": x_hat[chosen],
        "extremes/score": errors[chosen],
    }
    as_bytes = np.rint(images[:12] * 255).astype(np.uint8)
    for sampler in ("prior", "gaussian", "mixture"):
        found[f"generated/{sampler}/x_hat"] = as_bytes[:10]
        found[f"generated/{sampler}/nearest"] = as_bytes[2:12]
        found[f"generated/{sampler}/distance"] = errors[:10]
    found["paths/x"] = as_bytes.reshape(6, 2, *shape)
    found["paths/x_hat"] = np.stack([as_bytes[:11]] * 6)
    found["grid/x_hat"] = np.resize(as_bytes, (15, 15, *shape))
    found["grid/z"] = np.linspace(codes[:, :2].min(0), codes[:, :2].max(0), 15)
    return found | {f"shown/{part}/{k}": v for part in ("train", "test") for k, v in shown.items()}


def record_of(images: NDArray[np.float32], code_size: int, selection: str = "mse") -> RunRecord:
    spec = RunSpec(
        protocol="quick",
        protocol_fingerprint="0" * 16,
        task="reconstruction",
        dataset="photographs",
        dataset_label="photographs",
        data_digest="0" * 64,
        split=SplitConfig(),
        model="pca",
        model_revision=1,
        latent_dim=code_size,
        hyperparameters={},
        train=TrainConfig(epochs=EPOCHS, batch_size=64, lr=1e-3),
        evaluation=EvaluationConfig(),
        metric_revisions={},
        selection_metric=selection,
        seed=3,
    )
    history = tuple(
        EpochValues(e, 10 * e, 1000 * e, {"train/loss": 0.5**e, f"val/{selection}": 0.6**e})
        for e in range(1, EPOCHS + 1)
    )
    return RunRecord(
        run_key=spec.run_key,
        evaluation_digest=spec.evaluation_digest,
        spec=spec,
        status="finished",
        started_unix_ms=0,
        finished_unix_ms=1,
        history=history,
        scores={},
        facts={"code_size": code_size, "best_epoch": 3},
        image_shape=images.shape[1:],
        class_names=CLASSES,
        data_source="photographs",
        split_digest="0" * 16,
        weights_sha256="",
        arrays_sha256="",
        environment={},
    )
