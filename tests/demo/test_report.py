"""The report of the demo: complete, safe against what titles may hold, and nothing fetched from anywhere."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.demo.jobs import StageTime
from trailer_ml.demo.report import PICTURE_SIZE, cut_picture, write_report
from trailer_ml.demo.results import Results, SetAside, Sheet, result_lines
from trailer_ml.demo.studio import make_world
from trailer_ml.model.card import ModelCard
from trailer_ml.records import AdFilm, AdMatch, EmbeddedTrailer, Evaluation, Neighbour, Status
from trailer_ml.settings import FeatureSettings, ModelSettings
from trailer_ml.shards.schema import encode_jpeg
from trailer_ml.storage import Store, thumb_key

SCRIPT = "<script>alert(1)</script> & sons"


def _neighbour(number: int) -> Neighbour:
    return Neighbour(
        trailer_id=f"imdb-vi{number}", film_id=f"imdb-tt{number}", title=SCRIPT, kind="teaser", genres=("Drama",),
        score=0.5, video_share=-0.1, audio_share=0.6,
    )  # fmt: skip


@pytest.fixture
def results() -> Results:
    evaluation = Evaluation(
        version="m-1", n_queries=9, k=10, map_at_k=0.91, untrained_map_at_k=0.42, chance_map_at_k=0.17,
        recall_at_k=0.5, precision_at_k=0.9, per_genre={"Drama": 0.91},
    )  # fmt: skip
    card = ModelCard(
        version="m-1", encoder_sha256="0", video_dim=8, audio_dim=8, genres=("Drama",), backbone="MobileNetV2",
        backbone_weights="random", model=ModelSettings(), features=FeatureSettings(), dataset_key="d", shards=(),
        n_trailers={"train": 60, "test": 12}, n_films={"train": 50, "test": 10}, test_films=(), evaluation=evaluation,
        held_out_gallery={}, history=(), previous_champion=None, software={},
    )  # fmt: skip
    states = dict.fromkeys(
        ("listed", "downloaded", "sharded", "embedded", "waiting", "taken_down"), 0
    )  # every state is counted, also with nothing in it
    asked = EmbeddedTrailer(trailer_id="imdb-vi0", film_id="imdb-tt0", title="Rain", genres=("Drama", "Romance"))
    return Results(
        status=Status.model_validate(
            {"n_listed": 74, "states": {**states, "indexed": 73, "rejected": 1}, "champion": "m-1",
             "index_version": "i-1", "index_recall_at_10": 1.0}
        ),
        card=card,
        sheets=[Sheet(asked, [_neighbour(1), _neighbour(2)])],
        ads=[
            AdMatch(ad="ad-drama", source="http://127.0.0.1/a", films=(AdFilm(best=_neighbour(1), reason="alike"),)),
            AdMatch(ad="ad-action", source="http://127.0.0.1/b", problem="corrupt", detail=SCRIPT),
        ],
        set_aside=[SetAside(id="imdb-vi9", title="Broken", state="rejected", reason="corrupt", detail=SCRIPT)],
        times=[StageTime("crawl", 3, 4.56)],
        sizes_bytes={"world": 3 * 2**20},
    )  # fmt: skip


@pytest.fixture
def put_thumbs(store: Store) -> Callable[[int], None]:
    def put(n: int) -> None:
        for number in range(n):
            frame = np.full((224, 224, 3), 40 * number, np.uint8)
            store.put_bytes(thumb_key(f"imdb-vi{number}"), encode_jpeg(frame, 90))

    return put


def test_the_page(results: Results, store: Store, put_thumbs: Callable[[int], None], tmp_path: Path) -> None:
    put_thumbs(3)
    make_world(tmp_path / "world", n_films=12, seconds=8.0)
    path = write_report(results, store, tmp_path / "world", tmp_path / "report")
    page = path.read_text()
    for fact in ("0.910", "0.420", "0.170", "74 listed = 73 indexed + 1 rejected", "Rain", "corrupt", "4.6", "3 MiB"):
        assert fact in page
    assert "<script" not in page
    assert set(re.findall(r"(?:src|href)=.(.{0,5})", page)) == {"data:"}
    assert page.count("<img") == page.count('alt="') == 6
    assert "width: -" not in page  # a share below nothing has no bar
    assert list((tmp_path / "report").iterdir()) == [path]


def test_a_picture_is_small_and_square() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (180, 320, 3), np.uint8)
    uri = cut_picture(encode_jpeg(frame, 95))
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 4 * PICTURE_SIZE**2


def test_the_text(results: Results) -> None:
    text = "\n".join(result_lines(results))
    for fact in (
        "Rain, Drama/Romance",
        " 0.50 =   -0.10 +  0.60",
        "ad-drama     0.50",
        "ad-action    corrupt:",
        "mAP@10 0.910   untrained 0.420   chance 0.170",
        "74 listed = 73 indexed + 1 rejected",
        "MobileNetV2, random weights to begin with, 72 trailers of 60 films, 10 of them held out",
    ):
        assert fact in text
