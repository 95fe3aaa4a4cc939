"""What each endpoint answers, and that it is what the functions behind it say."""

import datetime as dt
import io
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from trailer_ml.search.service.catalogue import Catalogue
from trailer_ml.search.service.shown import Showcase
from trailer_ml.search.similar import find_similar
from trailer_ml.search.takedown import take_down
from trailer_ml.storage import ads_key, shard_key
from trailer_ml.vectors import normalise


def test_the_catalogue_is_found_by_words_and_genre_page_by_page(serve, world) -> None:
    served = serve()
    first = served.get("/api/v1/trailers?limit=10").json()
    rest = served.get("/api/v1/trailers?limit=200&offset=10").json()
    ids = [trailer["trailer_id"] for trailer in first["trailers"] + rest["trailers"]]
    years = [trailer["year"] for trailer in first["trailers"] + rest["trailers"]]
    assert first["n"] == len(ids) == len(set(ids)) == 24
    assert years == sorted(years, reverse=True)
    assert sum(first["genres"].values()) == 24
    fog = served.get("/api/v1/trailers", params={"q": "fog FILM"}).json()
    assert fog["n"] == 12
    assert served.get("/api/v1/trailers", params={"q": "fog", "genre": "Comedy"}).json()["n"] == 4
    assert served.get("/api/v1/trailers", params={"q": world[5].trailer_id}).json()["n"] == 1
    assert served.get("/api/v1/trailers", params={"q": "%"}).json()["n"] == 0


def test_titles_that_begin_with_the_words_come_first(world) -> None:
    found = Catalogue(world).find("h", "", frozenset())
    begins = [world[row].title.startswith("Harbour") for row in found]
    assert begins == sorted(begins, reverse=True)


def test_titles_are_found_without_their_accents(make_trailer) -> None:
    titles = Catalogue(
        [make_trailer(0, title="Amélie"), make_trailer(1, title="AMELIE 2"), make_trailer(2, title="Été")]
    )
    assert titles.find("amelie", "", frozenset()) == titles.find("AMÉLIE", "", frozenset()) == [1, 0]


def test_similar_is_what_the_command_says_and_names_what_it_comes_from(serve, world, settings, store) -> None:
    served, trailer_id = serve(), world[3].trailer_id
    for same_film in (False, True):
        answer = served.get(f"/api/v1/trailers/{trailer_id}/similar?k=7&same_film={same_film}").json()
        expected = find_similar(trailer_id, settings, store, k=7, same_film=same_film)
        assert answer["neighbours"] == [neighbour.to_json() for neighbour in expected]
    snapshot = served.app.state.service.live.snapshot()
    assert (answer["index_version"], answer["model_version"]) == (snapshot.index.manifest.version, "m-1")


def test_what_is_seen_of_a_trailer_comes_from_its_record(serve, world, store) -> None:
    served = serve()
    for trailer in (world[17], world[2]):  # the second one's record lies before the first one's
        path = f"/api/v1/trailers/{trailer.trailer_id}"
        known = served.get(path).json()
        assert known["trailer"]["title"] == trailer.title
        assert (known["plot"], known["source_url"], known["has_media"]) == (trailer.plot, trailer.source_url, False)
        assert known["frame_times_s"] == [5.0 + 12 * n for n in range(10)]
        frame = served.get(f"{path}/frames/4.jpg")
        pixel = np.asarray(Image.open(io.BytesIO(frame.content)).convert("RGB"))[5, 5].astype(int)
        hue = int(trailer.trailer_id[-3:]) * 7 + 80
        assert np.abs(pixel - [hue % 256, hue * 3 % 256, hue * 5 % 256]).max() < 6
        assert served.get(f"{path}/frames/10.jpg").status_code == 404
        assert served.get(f"{path}/spectrogram.png").content.startswith(b"\x89PNG")
        again = served.get(f"{path}/frames/4.jpg", headers={"If-None-Match": frame.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    silent = f"/api/v1/trailers/{world[-1].trailer_id}"
    assert served.get(silent).json()["has_audio"] is False
    assert served.get(f"{silent}/spectrogram.png").status_code == 404


def test_two_who_look_into_one_shard_at_once_both_see_what_they_asked_for(world, store, monkeypatch) -> None:
    """While the first of them is at the lengths of its records, the second one goes all the way."""
    showcase = Showcase(store)
    read_length = showcase._read_length
    others = [world[20].trailer_id]

    def read_late(*asked):
        length = read_length(*asked)
        if others:
            showcase.shown(others.pop())
        return length

    monkeypatch.setattr(showcase, "_read_length", read_late)
    for trailer in (world[5], world[20], world[22]):
        assert showcase.shown(trailer.trailer_id).source_url == trailer.source_url


def test_a_damaged_shard_gives_no_wrong_picture(serve, world, store) -> None:
    from trailer_ml.records import BatchRef

    key = shard_key(BatchRef(listed_on=world[0].listed_on, number=0))
    body = bytearray(store.read_bytes(key))
    body[body.index(b"\xff\xd8\xff") + 300] ^= 1  # in the middle of the first picture
    store.put_bytes(key, bytes(body))
    answer = serve().get(f"/api/v1/trailers/{world[0].trailer_id}/frames/0.jpg")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "this could not be answered; the log of the service says why"


def test_a_player_gets_the_part_that_it_asks_for(serve, world) -> None:
    served = serve()
    for asked, status, part in (
        (None, 206, "bytes 0-1048575/1280000"),
        ("bytes=10-19", 206, "bytes 10-19/1280000"),
        ("bytes=-5", 206, "bytes 1279995-1279999/1280000"),
        ("bytes=1279999-", 206, "bytes 1279999-1279999/1280000"),
        ("bytes=1280000-", 416, "bytes */1280000"),
        ("bytes=5-2", 416, "bytes */1280000"),
        ("lines=1-2", 416, "bytes */1280000"),
    ):
        headers = {"Range": asked} if asked else {}
        answer = served.get(f"/api/v1/trailers/{world[0].trailer_id}/media", headers=headers)
        assert (answer.status_code, answer.headers["content-range"]) == (status, part)
        if status == 206:
            start, end = (int(number) for number in part.split()[1].split("/")[0].split("-"))
            assert answer.content == (bytes(range(256)) * 5000)[start : end + 1]


def test_the_map_shows_the_directions_in_which_vectors_differ_most(serve, world, world_vectors) -> None:
    answer = serve().get("/api/v1/map").json()
    vectors = normalise(world_vectors).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    assert answer["explained"] == pytest.approx((values[:2] / values.sum()).tolist(), rel=1e-4)
    points = np.array([answer["x"], answer["y"]])
    assert np.abs(points).max() == pytest.approx(1, abs=1e-3)
    assert np.cov(points)[0, 1] == pytest.approx(0, abs=1e-3)
    assert answer["ids"] == [trailer.trailer_id for trailer in world]


def test_the_map_has_what_came_since_the_index_was_built(
    serve, world, put_embedded, make_vectors, make_trailer
) -> None:
    served, day = serve(), world[0].listed_on + dt.timedelta(days=1)
    assert len(served.get("/api/v1/map").json()["ids"]) == 24
    new = put_embedded(make_vectors(2, seed=1), [make_trailer(30 + n, day) for n in range(2)], day=day)
    served.app.state.service.live.snapshot().index.look_again_at = 0.0  # a second is not waited for
    served.app.state.service.live.look()
    answer = served.get("/api/v1/map").json()
    assert answer["ids"] == [trailer.trailer_id for trailer in (*world, *new)]
    assert len(answer["x"]) == 26


def test_ads_show_films_and_problems_and_no_path_of_the_machine(serve, world) -> None:
    served = serve()
    assert served.get("/api/v1/ads").json() == {"runs": ["night-1"]}
    good, bad = (run := served.get("/api/v1/ads/night-1").json())["ads"]
    assert (good["source"], len(good["films"]), bad["problem"]) == ("ad-fog.mp4", 3, "no_video")
    assert (bad["source"], bad["detail"]) == (
        "https://example.org/ad.mp4",
        "https://example.org/ad.mp4: it has no picture",
    )
    assert "secret" not in str(run)
    assert run["has_report"]
    report = served.get("/api/v1/ads/night-1/report")
    assert "sandbox" in report.headers["content-security-policy"]
    assert served.get("/api/v1/ads/night-2").status_code == 404


def test_a_film_that_is_taken_down_is_neither_named_by_ads_nor_in_their_report(serve, world, store) -> None:
    served = serve()
    other, last_of_film = world[4], world[5]
    assert other.trailer_id in served.get("/api/v1/ads/night-1").text
    take_down(other.trailer_id, store)
    served.app.state.service.live.look()
    run = served.get("/api/v1/ads/night-1")
    assert other.trailer_id not in run.text
    assert run.json()["has_report"]  # its name is not on it, nor its picture
    assert served.get("/api/v1/ads/night-1/report").status_code == 200
    take_down(last_of_film.trailer_id, store)
    served.app.state.service.live.look()
    assert not served.get("/api/v1/ads/night-1").json()["has_report"]
    assert served.get("/api/v1/ads/night-1/report").status_code == 404


def test_the_films_of_a_run_have_their_ads_and_what_is_taken_down_has_none(serve, world, store) -> None:
    served, path = serve(), "/api/v1/ads/night-1/films"
    answer = served.get(path).json()
    ids = [film["trailer"]["trailer_id"] for film in answer["films"]]
    assert ids == [world[number].trailer_id for number in (5, 3, 2, 1)]  # by the score of the best ad
    assert (answer["n"], answer["films"][0]["ads"][0]["ad"]) == (4, "ad-fog")
    page = served.get(f"{path}?offset=1&limit=1").json()
    assert (page["n"], page["films"]) == (4, answer["films"][1:2])
    assert [film["trailer"]["title"] for film in served.get(f"{path}?q=harbour").json()["films"]] == ["Harbour 2"]
    first, *_ = store.read_bytes(ads_key("night-1", "films.jsonl")).splitlines()
    store.put_bytes(ads_key("night-1", "films.jsonl"), first)  # the run was made again
    assert served.get(path).json()["films"] == answer["films"][3:]
    for number in (1, 21):
        take_down(world[number].trailer_id, store)
    served.app.state.service.live.look()
    assert served.get(path).json()["films"] == []
    assert served.get("/api/v1/ads/night-2/films").status_code == 404


def test_the_frames_of_an_ad_are_there_to_be_seen(serve, world) -> None:
    served = serve()
    picture = served.get("/api/v1/ads/night-1/pictures/ad-fog.jpg")
    width, height = Image.open(io.BytesIO(picture.content)).size
    assert width == height * len(served.get("/api/v1/ads/night-1").json()["ads"][0]["frame_times_s"]) == height * 10
    assert served.get("/api/v1/ads/night-1/pictures/ad-bad.jpg").status_code == 404


def test_duplicates_are_grouped(serve, make_vectors, put_embedded, publish) -> None:
    vectors = make_vectors(12)
    vectors[7] = vectors[2]
    put_embedded(vectors)
    publish()
    groups = serve().get("/api/v1/duplicates").json()["groups"]
    assert ["imdb-vi0000002", "imdb-vi0000007"] in [
        [each["trailer_id"] for each in group["trailers"]] for group in groups
    ]


def test_duplicates_come_page_by_page_without_what_is_taken_down_and_are_found_once(
    serve, make_vectors, put_embedded, publish, store
) -> None:
    """Five groups of three: of one its middle goes, of another all but one."""
    vectors = np.eye(16, dtype=np.float32)[np.arange(15) // 3]
    put_embedded(vectors)
    publish()
    served = serve()
    paths = [f"/api/v1/duplicates?offset={offset}&limit=2" for offset in (0, 2, 4, 6)]
    pages = [served.get(path).json() for path in paths]
    found = served.app.state.service.twins._found
    assert [(page["n"], len(page["groups"])) for page in pages] == [(5, 2), (5, 2), (5, 1), (5, 0)]
    assert len({group["trailers"][0]["trailer_id"] for page in pages for group in page["groups"]}) == 5
    for number in (1, 4, 5):
        take_down(f"imdb-vi{number:07d}", store)
    served.app.state.service.live.look()
    (first, *_), n = (served.get("/api/v1/duplicates").json()[name] for name in ("groups", "n"))
    assert n == 4
    assert [each["trailer_id"] for each in first["trailers"]] == ["imdb-vi0000000", "imdb-vi0000002"]
    assert len(first["pairs"]) == len(first["evidence"]) == 1
    assert served.app.state.service.twins._found is found


def test_whoever_waits_for_duplicates_keeps_nobody_else_waiting(
    serve, make_vectors, put_embedded, publish, monkeypatch
) -> None:
    put_embedded(make_vectors(3))
    publish()
    served = serve()
    twins = served.app.state.service.twins
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr("trailer_ml.search.service.twins._COMMAND", endless)
    monkeypatch.setattr("trailer_ml.search.service.twins._PATIENCE_S", 600)
    with ThreadPoolExecutor(45) as askers:
        waiting = [askers.submit(served.get, "/api/v1/duplicates") for _ in range(45)]
        until = time.monotonic() + 60
        while twins._child is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert served.get("/api/v1/status").status_code == 200  # in a thread, of which there are 40
        twins._child.kill()
        assert {each.result().status_code for each in waiting} == {503}


def test_a_search_for_duplicates_that_fails_says_so_and_is_not_begun_again_at_once(
    serve, make_vectors, put_embedded, publish, store, monkeypatch
) -> None:
    put_embedded(make_vectors(3))
    version = publish()
    served = serve()
    twins = served.app.state.service.twins
    monkeypatch.setattr("trailer_ml.search.service.twins._COMMAND", [sys.executable, "-c", "raise SystemExit(3)"])
    for _ in range(2):
        answer = served.get("/api/v1/duplicates")
        assert (answer.status_code, answer.json()["detail"]) == (503, "this cannot be answered just now: try again")
    failed = twins._find(version)
    monkeypatch.setattr("trailer_ml.search.service.twins._PAUSE_S", 0)
    assert twins._find(version) is not failed
    monkeypatch.setattr("trailer_ml.search.service.twins._PATIENCE_S", 0)
    answer = served.get("/api/v1/duplicates")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_status_health_and_metrics_say_what_is_served(serve, world) -> None:
    served = serve()
    version = served.app.state.service.live.snapshot().index.manifest.version
    status = served.get("/api/v1/status").json()
    assert (status["n_indexed"], status["status"]["states"]["indexed"], status["is_up_to_date"]) == (24, 24, True)
    assert status["status"]["index_version"] == version
    assert served.get("/health/live").status_code == served.get("/health/ready").status_code == 200
    served.get("/no/such/path")
    text = served.get("/metrics").text
    for line in (
        f'trailer_ml_index_info{{version="{version}"}} 1.0',
        'trailer_ml_champion_info{version="m-1"} 1.0',
        "trailer_ml_index_trailers 24.0",
        "trailer_ml_index_recall_at_10 1.0",
        'trailer_ml_trailers{state="indexed"} 24.0',
        'trailer_ml_requests_total{method="GET",route="other",status="404"} 1.0',
        'trailer_ml_request_seconds_count{route="/health/live"} 1.0',
    ):
        assert line in text


def test_without_an_index_it_says_so_and_comes_up(serve) -> None:
    served = serve()
    assert served.get("/health/live").status_code == 200
    for path in ("/health/ready", "/api/v1/trailers", "/api/v1/trailers/x/similar", "/api/v1/map"):
        answer = served.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (503, "no index has been published yet")
    assert served.get("/api/v1/status").json()["published_at"] is None
    assert served.get("/metrics").status_code == 200


def test_the_description_has_an_example_of_every_answer(serve, world) -> None:
    described = serve().get("/api/v1/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert "/api/v1/trailers/{trailer_id}/similar" in described["paths"]
    answers = [name for name in schemas if name.endswith("Answer")]
    assert len(answers) >= 10
    for name in (*answers, "Health", "Problem"):
        assert schemas[name]["example"], name


def test_the_description_says_how_the_key_is_given_where_there_is_one(serve, world) -> None:
    assert "security" not in serve().get("/api/v1/openapi.json").json()
    served = serve(api_key=SecretStr("correct-horse-battery"))
    described = served.get("/api/v1/openapi.json", headers={"X-API-Key": "correct-horse-battery"}).json()
    ways = described["components"]["securitySchemes"]
    assert ways["key"]["name"] == "X-API-Key"
    assert described["security"] == [{name: []} for name in ways]


def test_what_board_and_alerts_ask_of_the_service_is_in_a_scrape(serve, world) -> None:
    watch = Path(__file__).parents[3] / "docker" / "watch"
    text = "".join((watch / name).read_text() for name in ("grafana/trailer-ml.json", "alerts.yml"))
    asked = set(re.findall(r"(?<!airflow_)\btrailer_ml_\w+", text))
    served = serve()
    served.get("/health/live")
    exposed = set(re.findall(r"^(?:# TYPE )?(\w+)", served.get("/metrics").text, re.MULTILINE))
    assert len(asked) > 10
    assert asked <= exposed
