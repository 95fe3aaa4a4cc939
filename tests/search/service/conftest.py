"""A small world that is really served: published index, shards with real records, pictures, bytes, an ads run."""

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import uvicorn

from trailer_ml.features.extract import Features
from trailer_ml.index.stored import read_current_manifest
from trailer_ml.records import (
    AdFilm,
    AdMatch,
    BatchRef,
    FilmAds,
    FramePair,
    Neighbour,
    PlacedAd,
    Receipt,
    ShardManifest,
    Trailer,
)
from trailer_ml.search.ads import Look, take_glimpse, write_run
from trailer_ml.search.service.app import make_app
from trailer_ml.search.service.patience import PatientProtocol
from trailer_ml.settings import FeatureSettings, ServiceSettings, Settings
from trailer_ml.shards.schema import encode_jpeg, to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import (
    Store,
    media_key,
    sha256_of,
    shard_key,
    shard_manifest_key,
    thumb_key,
)

SIZE, N_FRAMES = 48, 10
COPIES = {22: 2}
"""Which trailer of `world` is like which, by number; both are of one film."""
NASTY = "<img src=x onerror=alert(1)> & \"Fog\" 'n' {{7*7}}"


class Served(NamedTuple):
    """A service that runs on a port of its own."""

    url: str
    app: Any
    client: httpx.Client

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)


@pytest.fixture
def serve(settings: Settings, store: Store) -> Iterator[Callable[..., Served]]:
    """Starts a service on loopback; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **changed: stack.enter_context(serving(settings, store, **changed))


@contextlib.contextmanager
def serving(settings: Settings, store: Store, **changed: Any) -> Iterator[Served]:
    service = ServiceSettings(requests_per_s=10_000.0).model_copy(update=changed)
    app = make_app(settings.model_copy(update={"service": service}), store)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=PatientProtocol, ws="none", log_config=None, proxy_headers=False, server_header=False)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60, verify=False) as client:  # certificates take 50 ms to load
            yield Served(url, app, client)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture
def world_vectors(make_vectors) -> np.ndarray:
    """Of the 24 trailers of `world`."""
    vectors = make_vectors(24, spread=0.8)
    for copy, original in COPIES.items():
        vectors[copy] = vectors[original]
    return vectors


@pytest.fixture
def world(put_embedded, world_vectors, make_trailer, publish, store) -> list[Trailer]:
    """24 trailers of 20 films in an index.

    The first has a title that tries to be markup, the last has no sound, and one is a copy of another one.
    """
    trailers = [
        make_trailer(
            number,
            film_id=f"imdb-tt{number % 20:07d}",
            title=NASTY if number == 0 else f"Film {number} of Fog" if number % 2 else f"Harbour {number}",
            kind="teaser" if number >= 20 else "trailer",
            plot="A village <b>waits</b>.",
            source_url="javascript:alert(1)" if number == 0 else f"https://example.org/video/{number}",
        )
        for number in range(24)
    ]
    put_embedded(world_vectors, trailers)
    batch = BatchRef(listed_on=trailers[0].listed_on, number=0)
    put_shard(batch, trailers, store)
    for trailer in trailers:
        store.put_bytes(thumb_key(trailer.trailer_id), encode_jpeg(picture(trailer, 3), 90), "image/jpeg")
    store.put_bytes(media_key(trailers[0].trailer_id), bytes(range(256)) * 5000)
    publish()
    put_ads("night-1", trailers[1:4], store, also=trailers[4:6])
    return trailers


def picture(trailer: Trailer, n: int) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: a colour of its own for each trailer and frame, and a pattern in a quarter of it."""
    number = int(trailer.trailer_id[-3:])
    number = COPIES.get(number, number)
    hue = number * 7 + n * 20
    made = np.full((SIZE, SIZE, 3), (hue % 256, hue * 3 % 256, hue * 5 % 256), np.uint8)
    pattern = np.random.default_rng((number, n)).integers(0, 256, (4, 4), np.uint8)
    made[SIZE // 2 :, SIZE // 2 :] = pattern.repeat(SIZE // 8, 0).repeat(SIZE // 8, 1)[..., None]
    return made


def features_of(trailer: Trailer, settings: FeatureSettings, *, has_audio: bool) -> Features:
    """What is seen and heard of a trailer."""
    return Features(
        frames=np.stack([picture(trailer, n) for n in range(N_FRAMES)]),
        frame_times_s=np.array(settings.instants_s),
        spectrogram=picture(trailer, 11),
        has_audio=has_audio,
        duration_s=131.0,
        sampler="exact",
        extractor_version=settings.extractor_version,
    )


def put_shard(batch: BatchRef, trailers: list[Trailer], store: Store) -> None:
    """Records as write_shard leaves them, the last trailer without sound."""
    settings = FeatureSettings(n_frames=N_FRAMES, image_size=SIZE)
    file = io.BytesIO()
    for trailer in trailers:
        features = features_of(trailer, settings, has_audio=trailer is not trailers[-1])
        receipt = Receipt(
            trailer_id=trailer.trailer_id, sha256="0" * 64, size_bytes=1, duration_s=131.0, streams=(),
            source_url=trailer.source_url, downloader="test",
        )  # fmt: skip
        write_record(file, to_example(trailer, features, receipt, settings))
    body = file.getvalue()
    manifest = ShardManifest.model_validate(store.read_json(shard_manifest_key(batch)))
    manifest = manifest.model_copy(
        update={"sha256": sha256_of(body), "size_bytes": len(body), "features": settings.model_dump(mode="json")}
    )
    store.put_bytes(shard_key(batch), body)
    store.put_json(shard_manifest_key(batch), manifest.to_json())


def put_ads(run: str, trailers: list[Trailer], store: Store, also: Sequence[Trailer] = ()) -> None:
    """A run as match_ads leaves it: an ad that looks like the first of these trailers, and one that is none.

    Each film names the others, and the last of these has a line among the films, too.
    """
    features = features_of(trailers[0], FeatureSettings(n_frames=N_FRAMES, image_size=SIZE), has_audio=True)
    seen = take_glimpse(features, np.zeros(1, np.float32))
    films = tuple(
        AdFilm(
            best=Neighbour(
                **trailer.model_dump(include={"trailer_id", "film_id", "title", "kind", "genres"}),
                score=0.8, video_share=0.3, audio_share=0.5, also=tuple(each.trailer_id for each in also),
            ),
            reason="mostly sound: 0.50 of 0.80",
            percentile=99.5,
            frames=(FramePair(one_s=17.0, other_s=29.0, likeness=0.9),),
        )
        for trailer in trailers
    )  # fmt: skip
    good = AdMatch(
        ad="ad-fog", source="/home/someone/secret/ad-fog.mp4", films=films, reason="mostly sound",
        genre_mix={"Drama": 0.625, "Comedy": 0.375}, frame_times_s=seen.times_s,
    )  # fmt: skip
    address = "https://me:secret@example.org/ad.mp4?X-Amz-Signature=secret"
    bad = AdMatch(ad="ad-bad", source=address, problem="no_video", detail=f"{address}: it has no picture")
    given = [
        FilmAds(
            film_id=trailer.film_id, title=trailer.title, genres=trailer.genres,
            ads=(PlacedAd(ad="ad-fog", score=0.5 + n / 10, percentile=9.0, video_share=0.3, audio_share=0.2 + n / 10),),
        )
        for n, trailer in enumerate([*trailers, *also[-1:]])
    ]  # fmt: skip
    nothing = FilmAds(film_id="imdb-tt0000009", title="Film 9 of Fog", genres=(), ads=())
    write_run(run, [Look(good, seen), Look(bad)], [*given, nothing], read_current_manifest(store), store)
