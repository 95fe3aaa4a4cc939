"""What there is to look at of a model: its page, its event files and its table."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trailer_ml.model import charts
from trailer_ml.model.alterations import CHANGES
from trailer_ml.model.card import ModelCard, ModelFigures, PhaseHistory
from trailer_ml.model.dataset import DatasetTrailer
from trailer_ml.model.page import N_NEIGHBOURS, render_page, write_page
from trailer_ml.model.pictures import forget_picture, mark_of, page_key
from trailer_ml.model.retrieval import Retrieval, measure_retrieval
from trailer_ml.model.table import describe_evaluation
from trailer_ml.model.tensorboard import encode_events, write_event_files
from trailer_ml.records import CopyFigures, Estimate, Evaluation
from trailer_ml.settings import FeatureSettings, ModelSettings
from trailer_ml.storage import Store, catalog_key, thumb_key, tombstone_key
from trailer_ml.vectors import normalise

HOSTILE = '</style><script>alert(1)</script> & "it\'s" {{ 7 * 7 }}'
GENRES = ("Action", HOSTILE)
HISTORY = tuple(
    PhaseHistory(phase=phase.name, epochs=tuple({"loss": 1 / epoch, "active_share": 0.5} for epoch in range(1, 4)))
    for phase in ModelSettings().phases
)
TRAILERS = tuple(
    DatasetTrailer(
        trailer_id=f"imdb-vi{n:07d}", film_id=f"imdb-tt{n:07d}", genres=(GENRES[n % 2],),
        split="test" if n < 8 else "train", shard=0, row=n,
    )
    for n in range(24)
)  # fmt: skip


@pytest.fixture
def vectors() -> np.ndarray:
    return normalise(np.random.default_rng(3).normal(size=(len(TRAILERS), 6)).astype(np.float32))


@pytest.fixture
def answers(vectors: np.ndarray) -> Retrieval:
    return measure_retrieval(vectors, TRAILERS)


def make_card(answers: Retrieval, *, with_copies: bool = True) -> ModelCard:
    found = Estimate(value=0.875, low=0.75, high=1.0)
    copies = {name: CopyFigures(n=8, recall_at_1=found, map=found) for name in (*CHANGES, "all")} if with_copies else {}
    ours = ModelFigures(retrieval=answers.overall(), per_genre=answers.per_genre(), copies=copies)
    facts = dict.fromkeys(("untrained_map_at_k", "chance_map_at_k", "recall_at_k", "precision_at_k"), 0.25)
    return ModelCard(
        version="m-1",
        encoder_sha256="0" * 64,
        video_dim=3,
        audio_dim=3,
        genres=GENRES,
        backbone=HOSTILE,
        backbone_weights="random",
        model=ModelSettings(),
        features=FeatureSettings(),
        dataset_key="models/m-1/dataset.json",
        shards=(),
        n_trailers={"train": 16, "test": 8},
        n_films={"train": 16, "test": 8},
        test_films=(),
        evaluation=Evaluation(
            version="m-1", n_queries=8, k=10, map_at_k=answers.map_at_k, copies=copies.get("all"), **facts
        ),
        figures=dict.fromkeys(("trained", "chance"), ours),
        held_out_gallery={},
        history=HISTORY,
        previous_champion=None,
        software={"trailer-ml": "0.1"},
    )


@pytest.fixture
def shown(store: Store, make_trailer) -> None:
    """Titles and pictures of the trailers."""
    listed = [
        make_trailer(n, trailer.genres).model_copy(update={"title": HOSTILE}) for n, trailer in enumerate(TRAILERS)
    ]
    lines = "".join(trailer.model_dump_json() + "\n" for trailer in listed)
    store.put_bytes(catalog_key(listed[0].listed_on), lines.encode())
    file = io.BytesIO()
    Image.new("RGB", (224, 224), "red").save(file, "JPEG")
    for trailer in TRAILERS:
        store.put_bytes(thumb_key(trailer.trailer_id), file.getvalue())


def test_the_page_stands_alone_and_lets_nothing_in(store: Store, shown, vectors, answers) -> None:
    page = render_page(make_card(answers), vectors, answers, TRAILERS, store)
    assert page == render_page(make_card(answers), vectors, answers, TRAILERS, store)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "alert(1)&lt;/script&gt; &amp;" in page
    assert "{{ 7 * 7 }}" in page
    assert re.findall(r"(?:src|href)\s*=|https?:|@import|url\((?!data:image/jpeg;base64,)", page) == []
    assert page.count("data:image/jpeg") == len(TRAILERS)
    assert page.count('<li class="query">') == 6
    assert page.count("<li>") == 6 * N_NEIGHBOURS + len(GENRES)
    assert page.count("<polyline") == sum(len(phase.epochs[0]) for phase in HISTORY)
    assert all(f'<th scope="row">{change}</th>' in page for change in CHANGES)


def test_shards_that_were_left_out_are_named(store: Store, vectors, answers) -> None:
    card = make_card(answers)
    assert "left out</th>" not in render_page(card, vectors, answers, TRAILERS, store)
    card = card.model_copy(update={"bad_shards": ("shards/listed=2026-11-22/0003.tfrecord", HOSTILE)})
    page = render_page(card, vectors, answers, TRAILERS, store)
    assert page.count("left out</th>") == 2
    assert "shards/listed=2026-11-22/0003.tfrecord" in page


def test_without_pictures_and_copies_there_is_a_page(store: Store, vectors, answers) -> None:
    page = render_page(make_card(answers, with_copies=False), vectors, answers, TRAILERS, store)
    assert "imdb-vi0000003" in page  # for a title
    assert "data:image" not in page
    assert "Not measured" in page


def test_a_page_is_written_once_and_forgets_who_is_taken_down(store: Store, shown, vectors, answers) -> None:
    card = make_card(answers)
    store.put_json(tombstone_key("imdb-vi0000002"), {})  # while its picture is being read
    write_page(card, vectors, answers, TRAILERS, store)
    page = store.read_bytes(page_key("m-1")).decode()
    assert mark_of("imdb-vi0000001") in page
    assert mark_of("imdb-vi0000002") not in page
    write_page(card.model_copy(update={"backbone": "another"}), vectors, answers, TRAILERS, store)
    assert store.read_bytes(page_key("m-1")).decode() == page
    assert [forget_picture("imdb-vi0000001", store) for _ in range(2)] == [1, 0]
    assert len(store.read_bytes(page_key("m-1")).splitlines()) == len(page.splitlines()) - 1


def test_confusion_counts_the_genre_of_the_nearest() -> None:
    def trailer(number: int, *genres: str) -> DatasetTrailer:
        return TRAILERS[number].model_copy(update={"genres": genres, "film_id": f"imdb-tt{min(number, 3):07d}"})

    trailers = [trailer(0, "A"), trailer(1, "A", "B"), trailer(2, "B"), trailer(3, "B"), trailer(4, "B")]
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0], [-1, 0]], np.float32)
    nearest = charts.find_nearest(vectors, trailers, [0, 3], 2)
    assert nearest == {0: [1, 2], 3: [2, 1]}  # the 4th is of the same film as the 3rd
    assert charts.count_confusion(nearest, trailers, ("A", "B", "C")) == [
        ("A", 1, [0.5, 0.5, 0.0]),
        ("B", 1, [0.0, 1.0, 0.0]),
    ]


def test_the_map_shows_the_two_longest_directions() -> None:
    vectors = np.array([[-5, 0, 0], [5, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 0.1]], np.float32)
    places = np.array(charts.draw_map(vectors))
    assert ((places >= 0) & (places <= [charts.MAP_WIDTH, charts.MAP_HEIGHT])).all()
    distances = [np.linalg.norm(places[a] - places[b]) for a, b in ((0, 1), (2, 3))]
    assert distances[0] / distances[1] == pytest.approx(2.5, rel=0.01)


def test_a_curve_goes_from_the_first_epoch_to_the_last() -> None:
    phase = PhaseHistory(phase="x", epochs=({"b": 1.0, "loss": 4.0, "c": 1.0}, {"b": 0.5, "loss": 0.0, "c": np.nan}))
    loss, b = charts.draw_curves(phase)
    assert (loss.name, loss.points) == ("loss", ((0.0, 0.0), (charts.WIDTH, charts.HEIGHT)))
    assert (b.name, b.points[-1]) == ("b", (charts.WIDTH, charts.HEIGHT / 2))


def test_tensorboard_reads_what_was_written(store: Store, tmp_path: Path) -> None:
    write_event_files("m-1", HISTORY, store)
    keys = list(store.list_keys("models/m-1/tensorboard/"))
    assert len(keys) == len(HISTORY)
    steps = []
    for key, phase in zip(keys, HISTORY, strict=True):
        path = tmp_path / key
        path.parent.mkdir(parents=True)
        path.write_bytes(store.read_bytes(key))
        events = EventAccumulator(str(path.parent)).Reload()
        assert events.Tags()["scalars"] == ["active_share", "loss"]
        assert [event.value for event in events.Scalars("loss")] == pytest.approx([e["loss"] for e in phase.epochs])
        steps += [event.step for event in events.Scalars("loss")]
    assert steps == list(range(1, 3 * len(HISTORY) + 1))
    assert encode_events(HISTORY[0]) == store.read_bytes(keys[0])


def test_the_table_has_every_figure_beside_the_others(answers) -> None:
    card = make_card(answers)
    beside = {"champion": "m-0", "champion_map_at_k": 0.5, "champion_gain": Estimate(value=0.1, low=-0.1, high=0.3)}
    text = describe_evaluation(card.evaluation.model_copy(update=beside), card, "s3://trailers/models/m-1/card.html")
    mean = answers.overall()["map"]
    assert re.search(rf"^this model +{mean.value:.3f} \({mean.low:.3f}-{mean.high:.3f}\)", text, re.MULTILINE)
    assert re.search(r"^letterboxed +8 +0.875 \(0.750-1.000\) +0.875 \(0.750-1.000\)$", text, re.MULTILINE)
    assert "beside the champion m-0: mAP@10" in text
    assert "its 0.500, +0.100 (-0.100 to +0.300)" in text
    assert text.endswith("page  s3://trailers/models/m-1/card.html")
