"""Recurrent autoencoders: an image is a sequence of its rows."""

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape

_HIDDEN = 128


class RnnAutoencoder(Autoencoder):
    """LSTM over the rows: H time steps of C x W values (Hochreiter and Schmidhuber 1997).

    Native: LSTM(28 -> 128) encodes, LSTM(128 -> 28) reads all its hidden states and outputs the
    image directly, without head or Sigmoid; the code is H x 128 numbers, over-complete. With
    a `latent_dim`: last hidden state -> Linear(128, d) -> Linear(d, 128), repeated H times ->
    LSTM -> Linear -> Sigmoid. The origin gives no width for this LSTM; it is the encoder's 128.
    """

    any_sides = True

    def __init__(self, image_shape: ImageShape, latent_dim: int | None = None) -> None:
        channels, height, width = image_shape
        row = channels * width
        super().__init__(image_shape, code_size=latent_dim or height * _HIDDEN)
        self.native = latent_dim is None
        self.encoder = nn.LSTM(row, _HIDDEN, batch_first=True)
        self.decoder = nn.LSTM(_HIDDEN, row if self.native else _HIDDEN, batch_first=True)
        if latent_dim is not None:
            self.to_code = nn.Linear(_HIDDEN, latent_dim)
            self.from_code = nn.Linear(latent_dim, _HIDDEN)
            self.head = nn.Sequential(nn.Linear(_HIDDEN, row), nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, code_size); natively in (-1, 1)."""
        states: Tensor = self.encoder(x.transpose(1, 2).flatten(2))[0]
        if self.native:
            return states.flatten(1)
        code: Tensor = self.to_code(states[:, -1])
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, code_size) -> (N, C, H, W); natively in (-1, 1), else in [0, 1]."""
        channels, height, width = self.image_shape
        if self.native:
            rows = self.decoder(z.unflatten(1, (height, _HIDDEN)))[0]
        else:
            repeated = self.from_code(z).unsqueeze(1).expand(-1, height, -1)
            rows = self.head(self.decoder(repeated)[0])
        image: Tensor = rows.unflatten(2, (channels, width)).transpose(1, 2)
        return image
