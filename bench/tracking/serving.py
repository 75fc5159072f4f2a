"""The model that MLflow serves: loaded as code, weights from safetensors; no pickles.

MLflow copies this file into the logged model and runs it where the model is loaded. `output`
chooses what is returned for images of shape (N, C, H, W), float32 in [0, 1]:

| output         | returned value                                                     |
|----------------|--------------------------------------------------------------------|
| reconstruction | (N, C, H, W) in [0, 1]                                             |
| code           | (N, code_size): the deterministic code                             |
| anomaly_score  | (N,): the image's mean squared error, higher is less like training |
| probabilities  | (N, classes): for a classifier, in the order of its classes        |
| features       | (N, feature_size): for a classifier, the layer before the last     |
| logits         | (N, classes): for a classifier, before the softmax                 |

The first three are an autoencoder's, the last three a classifier's.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from bench.models.base import ImageModel

_AT_ONCE = 256


class ServedModel(PythonModel):
    """Rebuilds the variant from its row of MODELS and its weights."""

    def load_context(self, context: PythonModelContext) -> None:
        """Called once by MLflow. Raises RuntimeError if weights or variant are not those logged."""
        card = json.loads(Path(context.artifacts["card"]).read_text(encoding="utf-8"))
        if importlib.util.find_spec("bench") is None:
            # The model includes the classes; an installed suite takes precedence over them.
            sys.path.append(str(Path(context.artifacts["code"])))
        self._shape: tuple[int, int, int] = tuple(card["image_shape"])
        if "own" in card:
            _take_code(card, Path(context.artifacts["code"]) / "own")
        self._model = _rebuild(card, Path(context.artifacts["weights"]).read_bytes())
        self._outputs = _outputs(self._model)

    # A plain array type: MLflow reads any other annotation as the model's schema.
    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Images (N, C, H, W) in [0, 1] -> what `params["output"]` names (see above).

        Raises MlflowException for images of another shape or range and for an unknown output.
        """
        output = str((params or {}).get("output", next(iter(self._outputs))))
        if output not in self._outputs:
            known = ", ".join(self._outputs)
            raise _refused(f"output {output!r} is unknown; expected one of {known}")
        images = self._checked(np.asarray(model_input))
        parts = [
            self._answer(images[start : start + _AT_ONCE], output)
            for start in range(0, len(images), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def _checked(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if images.ndim != 4 or images.shape[1:] != self._shape or not len(images):
            wanted = " x ".join(map(str, self._shape))
            raise _refused(f"expected images of shape N x {wanted}, got {images.shape}")
        if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise _refused(
                f"expected pixels in [0, 1], got {images.min():g} to {images.max():g}; "
                "divide 8-bit pixels by 255"
            )
        return images.astype(np.float32)

    def _answer(self, images: NDArray[np.float32], output: str) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            answer = self._outputs[output](torch.from_numpy(images))
        result: NDArray[np.float32] = answer.numpy().astype(np.float32)
        return result


def _refused(message: str) -> MlflowException:
    """The only kind of error whose message MLflow's scoring server returns unchanged."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _outputs(model: "ImageModel") -> Mapping[str, Callable[["Tensor"], "Tensor"]]:
    """The available outputs, by name; the first is the default."""
    from bench.models.base import Autoencoder, Classifier

    if isinstance(model, Autoencoder):
        return {
            "reconstruction": model.reconstruct,
            "code": model.encode_images,
            "anomaly_score": lambda x: (model.reconstruct(x) - x).square().mean(dim=(1, 2, 3)),
        }
    assert isinstance(model, Classifier)
    return {
        "probabilities": lambda x: model(x).softmax(dim=1),
        "features": model.features,
        "logits": model,
    }


def _take_code(card: dict[str, Any], folder: Path) -> None:
    """Let the class of a model that is not bench's own come from the code logged with it."""
    from bench.models.own import Origin, adopt

    own, name = card["own"], card["model"]
    files = tuple(own["files"])
    adopt(
        Origin(
            name,
            folder,
            own["module"],
            own["attribute"],
            own["digest"],
            files,
            own["by_path"],
            f"{name} as it was logged",
        )
    )


def _rebuild(card: dict[str, Any], weights: bytes) -> "ImageModel":
    """The variant with its weights, in evaluation mode."""
    from safetensors.torch import load

    from bench.models.zoo import build_network, variant

    if hashlib.sha256(weights).hexdigest() != card["weights_sha256"]:
        raise RuntimeError("the model's weights are not those that were logged (SHA-256 differs)")
    revision = variant(card["model"]).revision
    if revision != card["model_revision"]:
        raise RuntimeError(
            f"{card['model']} was trained at revision {card['model_revision']}, the installed "
            f"autoencoder-bench has revision {revision}; install version {card['bench_version']}"
        )
    shape = (card["image_shape"][0], card["image_shape"][1], card["image_shape"][2])
    model = build_network(
        card["model"],
        shape,
        card["latent_dim"],
        card["hyperparameters"],
        # Models logged before classifiers existed do not give the number of classes.
        card.get("classes", 0),
    )
    model.load_state_dict(load(weights))
    return model.eval()


mlflow.models.set_model(ServedModel())
