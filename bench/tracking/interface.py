"""The process of `bench ui`: MLflow's server in one process, for one origin, with its parent.

Run as `python -m bench.tracking.interface PORT` by `server.serving`. The store's address comes in
MLFLOW_BACKEND_STORE_URI, the folder of artifacts in MLFLOW_ARTIFACTS_DESTINATION. Standard input is
a pipe that the parent holds open: when it closes, however the parent ended, so does the server.

MLflow's own command lets pages of every port on this machine change things (its middleware accepts
each loopback origin, whatever `--cors-allowed-origins` says), so its application is served here
behind a stricter check.
"""

import os
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bench.tracking.address import HOST

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_READING = ("GET", "HEAD", "OPTIONS")


def addresses(port: int) -> tuple[str, ...]:
    """Host and port as a browser on this machine may name them."""
    return (f"{HOST}:{port}", f"localhost:{port}")


class OwnOriginOnly:
    """Refuses (403) what another page, or another name of this machine, asks an application.

    A request that changes something needs no Origin (programs send none) or the origin of its own
    Host; every request needs a Host of `addresses`.
    """

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._hosts = addresses(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""
        if scope["type"] in ("http", "websocket") and not self._allows(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"another origin\n"})
            return
        await self._app(scope, receive, send)

    def _allows(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        host, origin = (headers.get(key, b"").decode("latin-1") for key in (b"host", b"origin"))
        reading = scope.get("method") in _READING
        return host in self._hosts and (reading or origin in ("", f"http://{host}"))


def end_with_parent() -> None:
    """Wait until the pipe of the parent closes, then end at once."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


def main() -> None:
    """Serve until the parent ends."""
    port = int(sys.argv[1])
    threading.Thread(target=end_with_parent, daemon=True).start()
    from mlflow.server import constants

    # What `mlflow server` tells the processes that it starts.
    store = os.environ["MLFLOW_BACKEND_STORE_URI"]
    artifacts = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.REGISTRY_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(addresses(port)),
    }
    import uvicorn
    from mlflow.server.fastapi_app import app

    uvicorn.run(OwnOriginOnly(app, port), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main()
