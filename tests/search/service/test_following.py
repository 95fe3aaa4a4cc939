"""Following the store while requests are answered: what is taken down goes, what is published comes, none is mixed."""

import datetime as dt
import re
import shutil
import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from trailer_ml.errors import MissingObjectError
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index, rollback_index
from trailer_ml.index.serve import ServedIndex, open_index
from trailer_ml.search.takedown import take_down
from trailer_ml.storage import CHAMPION_KEY, Store, index_key, tombstone_key

SOON_S = 1.0
DAY = dt.date(2026, 1, 1)


def wait_until(happens, timeout_s: float = 60.0) -> float:
    """The seconds it took."""
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < timeout_s
        time.sleep(0.02)
    return time.monotonic() - began


def test_what_is_taken_down_is_gone_from_every_answer_within_a_second(serve, world, store) -> None:
    served, gone = serve(), world[1].trailer_id
    paths = [f"/api/v1/trailers/{gone}{end}" for end in ("", "/similar", "/thumb", "/frames/0.jpg", "/spectrogram.png")]
    assert {served.get(path).status_code for path in paths} == {200}
    lists = ("/api/v1/trailers?limit=200", "/api/v1/map", "/api/v1/ads/night-1", "/api/v1/duplicates",
             f"/api/v1/trailers/{world[7].trailer_id}/similar?k=30")  # fmt: skip
    assert gone in "".join(served.get(path).text for path in lists[:3])
    take_down(gone, store)
    took_s = wait_until(lambda: served.get(paths[0]).status_code == 404)
    assert took_s < SOON_S
    assert {served.get(path).status_code for path in paths} == {404}
    with pytest.raises(MissingObjectError):
        served.app.state.service.showcase.thumb(gone)  # it is not remembered either
    assert not any(gone in served.get(path).text for path in lists)
    assert served.get("/api/v1/trailers").json()["n"] == 23
    assert served.get("/api/v1/ads/night-1/report").status_code == 404  # its pictures are in there
    others = served.get(f"/api/v1/trailers/{world[17].trailer_id}/frames/3.jpg")  # the shard was made anew
    assert others.status_code == 200


def test_what_came_since_the_build_is_found(serve, world, put_embedded, make_vectors, make_trailer) -> None:
    served = serve()
    assert served.get("/api/v1/trailers").json()["n"] == 24
    day = DAY + dt.timedelta(days=300)
    put_embedded(make_vectors(24, spread=0.8)[:2], [make_trailer(n, day) for n in (500, 501)], day=day)
    wait_until(lambda: served.get("/api/v1/trailers").json()["n"] == 26)
    nearest = served.get("/api/v1/trailers/imdb-vi0000500/similar").json()["neighbours"][0]
    assert nearest["trailer_id"] == world[0].trailer_id
    assert nearest["score"] == pytest.approx(1, abs=1e-5)


def test_another_index_takes_the_place_of_the_old_one_and_the_way_back(
    serve, world, store, settings, put_embedded, make_vectors
) -> None:
    served = serve()
    first = served.get("/api/v1/trailers").json()["index_version"]
    put_embedded(make_vectors(6, seed=9), [world[0].model_copy(update={"trailer_id": f"new-{n}"}) for n in range(6)],
                 day=world[0].listed_on.replace(day=25))  # fmt: skip
    second = publish_index(build_index(settings, store).version, settings, store).version
    wait_until(lambda: served.get("/api/v1/trailers").json()["index_version"] == second)
    assert served.get("/api/v1/trailers/new-3/similar").status_code == 200
    rollback_index(settings, store)
    wait_until(lambda: served.get("/api/v1/trailers").json()["index_version"] == first)
    assert (
        served.get("/api/v1/trailers/new-3/similar").status_code == 200
    )  # it is embedded still: from beside the index


def test_no_answer_fails_or_is_mixed_while_indexes_change(
    serve, store, settings, put_embedded, make_vectors, publish
) -> None:
    """Two models, whose vectors of the same trailers have nothing in common: each answer is that of the one it names.

    The short form of `python -m benchmarks service`.
    """
    truth: dict[tuple[str, str], list[list[int]]] = {}
    for seed, model in enumerate(("m-1", "m-2")):
        vectors = make_vectors(40, seed=seed)
        put_embedded(vectors, model=model)
        scores = (vectors @ vectors.T).astype(np.float64)
        np.fill_diagonal(scores, -1)
        truth[publish(), model] = np.argsort(-scores, axis=1)[:, :5].tolist()
    served, stop = serve(refresh_s=0.02), threading.Event()
    answers: list[tuple[int, httpx.Response]] = []

    def ask(row: int) -> None:
        with httpx.Client(base_url=served.url, timeout=10) as client:
            while not stop.is_set():
                row = (row + 7) % 40
                answers.append((row, client.get(f"/api/v1/trailers/imdb-vi{row:07d}/similar?k=5")))

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version, model in [*truth] * 3:
            store.swap_pointer(CHAMPION_KEY, {"version": model}, store.read_pointer(CHAMPION_KEY))
            assert publish_index(version, settings, store, by_hand=True).is_published
            wait_until(lambda version=version: any(version in answer.text for _, answer in answers[-3:]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {answer.status_code for _, answer in answers} == {200}
    for row, answer in answers:
        body = answer.json()
        found = [int(each["trailer_id"][-7:]) for each in body["neighbours"]]
        assert found == truth[body["index_version"], body["model_version"]][row]


@pytest.fixture
def hold_opening(monkeypatch) -> Callable[[], threading.Event]:
    """From its call on an index is opened only once the event is set."""

    def hold() -> threading.Event:
        gate = threading.Event()

        def open_late(*asked) -> ServedIndex:
            assert gate.wait(60)
            return open_index(*asked)

        monkeypatch.setattr("trailer_ml.search.service.live.open_index", open_late)
        return gate

    return hold


@pytest.mark.parametrize("becomes", ["damaged", "opened"])
def test_what_is_taken_down_is_gone_while_another_index_is_opened_and_where_it_cannot_be(
    becomes, serve, world, store, put_embedded, make_vectors, publish, hold_opening
) -> None:
    served, gone = serve(refresh_s=0.02), [world[1].trailer_id, "imdb-vi0000502"]
    live = served.app.state.service.live
    first = live.snapshot().versions["index_version"]
    gate = hold_opening()
    day = DAY + dt.timedelta(days=300)
    new = [world[0].model_copy(update={"trailer_id": f"imdb-vi000050{n}", "listed_on": day}) for n in range(3)]
    put_embedded(make_vectors(3), new, day=day)
    wait_until(lambda: served.get("/api/v1/trailers/imdb-vi0000502/similar").status_code == 200)
    second = publish()
    if becomes == "damaged":
        store.put_bytes(index_key(second, "ids.json"), b"[]")
        shutil.rmtree(served.app.state.service.settings.index.cache_folder / second)
        gate.set()
        wait_until(lambda: live._failed[0] == second)
    else:
        wait_until(lambda: live.is_behind)
    paths = [f"/api/v1/trailers/{trailer_id}/similar" for trailer_id in gone]
    for trailer_id, path in zip(gone, paths, strict=True):
        take_down(trailer_id, store)
        wait_until(lambda path=path: served.get(path).status_code == 404)
    assert live.is_behind
    assert live.is_up_to_date
    assert "trailer_ml_index_behind 1.0" in served.get("/metrics").text
    assert served.get("/api/v1/trailers").json()["index_version"] == first
    if becomes == "opened":
        gate.set()
        wait_until(lambda: served.get("/api/v1/trailers").json()["index_version"] == second)
        assert {served.get(path).status_code for path in paths} == {404}
        assert not live.is_behind


def test_an_index_that_is_gone_back_from_while_it_is_opened_is_not_served(
    serve, world, settings, store, put_embedded, make_vectors, publish, hold_opening
) -> None:
    served = serve(refresh_s=0.02)
    live, first = served.app.state.service.live, served.get("/api/v1/trailers").json()["index_version"]
    gate = hold_opening()
    day = DAY + dt.timedelta(days=300)
    put_embedded(
        make_vectors(1), [world[0].model_copy(update={"trailer_id": "imdb-vi0000600", "listed_on": day})], day=day
    )
    publish()
    wait_until(lambda: live.is_behind)
    rollback_index(settings, store)
    wait_until(lambda: not live.is_behind)
    opened: list[str] = []
    live.on_open = lambda: opened.append(live.snapshot().versions["index_version"])
    gate.set()
    live._opening.join(60)
    assert opened == []
    assert served.get("/api/v1/trailers").json()["index_version"] == first


def test_what_came_since_and_was_taken_down_at_once_is_never_an_answer(
    serve, world, store, put_embedded, make_vectors, make_trailer
) -> None:
    served, day = serve(), DAY + dt.timedelta(days=300)
    store.create_json(tombstone_key("imdb-vi0000500"), {})
    live = served.app.state.service.live
    wait_until(lambda: "imdb-vi0000500" in live.snapshot().taken_down)
    put_embedded(make_vectors(2), [make_trailer(n, day) for n in (500, 501)], day=day)
    wait_until(lambda: served.get("/api/v1/trailers/imdb-vi0000501/similar").status_code == 200)
    assert "imdb-vi0000500" not in live.snapshot().index.row_of  # before the next snapshot no row would be left out


def test_a_store_that_does_not_answer_does_not_end_the_answers(serve, world, monkeypatch) -> None:
    served = serve()
    service = served.app.state.service
    counted = served.get("/api/v1/status").json()["status"]
    monkeypatch.setattr("trailer_ml.search.service.live._OUT_OF_DATE_S", 0.2)
    monkeypatch.setattr("trailer_ml.search.service.core._STATUS_S", 0.0)
    nowhere = Store(service.live._store.settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}))
    monkeypatch.setattr(service.live, "_store", nowhere)
    monkeypatch.setattr(service.counting, "_store", nowhere)
    wait_until(lambda: not served.get("/api/v1/status").json()["is_up_to_date"])
    assert served.get("/api/v1/status").json()["status"] == counted
    for path in ("/health/live", "/health/ready", "/metrics", f"/api/v1/trailers/{world[0].trailer_id}/similar"):
        assert served.get(path).status_code == 200
    unseen = re.search(r"^trailer_ml_store_unseen_seconds (.+)$", served.get("/metrics").text, re.MULTILINE)
    assert float(unseen[1]) > 0.2


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_indexes_are_served_too(n, serve, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(n))
    publish()
    served = serve()
    assert len(served.get(f"/api/v1/trailers/{trailers[0].trailer_id}/similar").json()["neighbours"]) == n - 1
    assert len(served.get("/api/v1/map").json()["x"]) == n
