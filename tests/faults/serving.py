"""An index that is served from before the first fault on, and somebody who asks for it all the time."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import numpy as np

from tests.faults.running import CANARY, Cluster, Watch, is_of_night
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.errors import SettingsError, StoreUnavailableError
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.stored import ANNOY_FILE, IDS_FILE, MANIFEST_FILE, read_pointer
from trailer_ml.records import BatchRef, EmbeddedTrailer
from trailer_ml.settings import as_environment
from trailer_ml.storage import CHAMPION_KEY, index_key

MODEL = "m-before"
DIM = 16


class Served(NamedTuple):
    """What came of asking, from here on."""

    answers: Watch
    """Those that were not as they should be."""
    versions: set[str]
    """Indexes that were answered from."""
    store: Watch
    """What was missing there: the pointer, or a file that it leads to."""


def publish_first_index(cluster: Cluster) -> str:
    """Serve made-up vectors of the world's trailers, as an earlier model would have left them.

    No other part is to know that model: afterwards there is no champion, and the training that is broken here is the
    first one.

    Returns:
        A trailer that is in this index and in all that follow.
    """
    rows = np.random.default_rng(0).normal(size=(len(cluster.world.clips), 2, DIM // 2))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True) * np.sqrt(2)
    trailers = [
        EmbeddedTrailer(
            trailer_id=f"manifest-{clip.video_id}", film_id=f"manifest-{clip.film_id}", title=clip.name, kind="trailer",
            genres=cluster.world.film(clip.film_id).genres, year=cluster.world.film(clip.film_id).year,
        )
        for clip in cluster.world.clips
    ]  # fmt: skip
    vectors = rows.reshape(len(trailers), DIM).astype(np.float32)
    batch = BatchRef(listed_on=cluster.days.full, number=0)
    write_vectors(
        cluster.store, batch, vectors, trailers, model_version=MODEL, video_dim=DIM // 2, shard_sha256="0" * 64
    )
    cluster.store.swap_pointer(CHAMPION_KEY, {"version": MODEL}, None)
    published = publish_index(build_index(cluster.settings, cluster.store).version, cluster.settings, cluster.store)
    assert published.is_published, published.reason
    cluster.store.delete(CHAMPION_KEY)
    return next(  # the one that is taken down is of an earlier day
        trailer.trailer_id for number, trailer in enumerate(trailers)
        if is_of_night(number) and not cluster.world.clips[number].oddity
    )  # fmt: skip


@contextlib.contextmanager
def run_service(cluster: Cluster) -> Iterator[httpx.Client]:
    """`trailer-ml serve` as on a machine of its own, with a key that is a secret too; its log lies with the others."""
    caches = cluster.settings.index.model_copy(update={"cache_folder": cluster.folder / "served"})
    key, store = f"{CANARY}-service-key", cluster.settings.store
    assert store.access_key_id
    assert store.secret_access_key
    environ = os.environ | as_environment(cluster.settings.model_copy(update={"index": caches})) | {
        "TRAILER_STORE_ACCESS_KEY_ID": store.access_key_id.get_secret_value(),
        "TRAILER_STORE_SECRET_ACCESS_KEY": store.secret_access_key.get_secret_value(),
        "TRAILER_SERVICE_API_KEY": key,
    }  # fmt: skip
    command = [sys.executable, "-m", "trailer_ml.cli", "serve", "--port", "0", "--json"]
    with (
        (cluster.airflow.home / "service.log").open("wb") as log,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout
            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60, verify=False) as client:
                yield client
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextlib.contextmanager
def watch_service(cluster: Cluster) -> Iterator[Served]:
    """Ask while the block runs, from an index on that is published now."""
    versions: set[str] = set()
    trailer_id = publish_first_index(cluster)
    with run_service(cluster) as client:

        def ask(path: str, name: str) -> Iterator[str]:
            try:
                answer = client.get(path)
            except httpx.HTTPError as error:
                yield f"{path}: {error!r}"
                return
            if answer.status_code != httpx.codes.OK or not answer.json()[name]:
                yield f"{path}: {answer.status_code} {answer.text}"
            else:
                versions.add(answer.json()["index_version"])

        def look() -> Iterator[str]:
            yield from ask(f"/api/v1/trailers/{trailer_id}/similar", "neighbours")
            yield from ask("/api/v1/trailers?limit=1", "trailers")

        served = Served(Watch(look), versions, Watch(lambda: find_missing(cluster)))
        for watch in (served.answers, served.store):
            watch.start()
        yield served
        for watch in (served.answers, served.store):
            watch.end()


def find_missing(cluster: Cluster) -> Iterator[str]:
    """What is not in the store of the index that the pointer leads to."""
    with contextlib.suppress(StoreUnavailableError, SettingsError):  # slow, or just starting, is not missing
        seen = read_pointer(cluster.store)
        if not seen:
            yield "the pointer"
            return
        keys = [index_key(seen.pointer.version, name) for name in (ANNOY_FILE, IDS_FILE, MANIFEST_FILE)]
        yield from (key for key in keys if not cluster.store.exists(key))
