"""`trailer-ml serve`: the app on a server of its own.

Does not belong here: what it answers.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from trailer_ml.errors import LocalFaultError
from trailer_ml.records import Record
from trailer_ml.search.service.access import check_access
from trailer_ml.search.service.app import make_app
from trailer_ml.search.service.patience import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

_GRACE_S = 5
_SWITCH_S = 0.0005
"""So long the thread that follows the store may keep the one that answers waiting; of itself Python allows 5 ms."""
_MAX_CONNECTIONS = 1000


class Serving(Record):
    """Where it can be reached."""

    url: str
    needs_key: bool


@contextmanager
def bind_service(settings: Settings) -> Iterator[tuple[Serving, socket.socket]]:
    """A socket to listen at while the block runs, and where that is.

    Raises:
        SettingsError: it would be reached by strangers without a key.
        LocalFaultError: the address cannot be had.
    """
    check_access(settings.service)
    host, port = settings.service.host, settings.service.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise LocalFaultError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    with listener:
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listener.getsockname()[1]}/"
        yield Serving(url=url, needs_key=settings.service.api_key is not None), listener


def run_service(listener: socket.socket, settings: Settings, store: Store) -> None:
    """Answer until SIGINT or SIGTERM; requests that were begun have `_GRACE_S` to get their answer first."""
    app = make_app(settings, store)
    # The trailers of an index are half a million objects that stay: a full collection would look at each of them and
    # hold every request for 0.1 s and more. What is frozen goes all the same when nobody refers to it any more. Only
    # here, for it is all of a process that is frozen.
    app.state.service.live.on_open = gc.freeze
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody may send those
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    sys.setswitchinterval(_SWITCH_S)
    uvicorn.Server(config).run(sockets=[listener])
