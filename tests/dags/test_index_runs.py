"""trailers_index as Airflow runs it, on a real store."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index, rollback_index
from trailer_ml.model.card import ModelCard, card_key, read_card
from trailer_ml.records import BatchRef, Evaluation, ShardManifest
from trailer_ml.settings import FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import CURRENT_INDEX_KEY, Store, shard_key, shard_manifest_key

DAY = dt.date(2026, 11, 20)
CARD = ModelCard(
    version="m-1",
    encoder_sha256="0" * 64,
    video_dim=8,
    audio_dim=8,
    genres=("Action", "Comedy"),
    backbone="MobileNetV2",
    backbone_weights="random",
    model=ModelSettings(),
    features=FeatureSettings(),
    dataset_key="models/m-1/dataset.json",
    shards=(),
    n_trailers={"train": 60, "test": 20},
    n_films={"train": 60, "test": 20},
    test_films=(),
    evaluation=Evaluation(
        version="m-1", n_queries=20, k=10, map_at_k=0.9, untrained_map_at_k=0.4, chance_map_at_k=0.2,
        recall_at_k=0.9, precision_at_k=0.9,
    ),
    held_out_gallery={},
    history=(),
    previous_champion=None,
    software={},
)  # fmt: skip


@pytest.fixture
def put_all(store: Store, put_embedded: Callable[..., Any]) -> Callable[[np.ndarray], None]:
    """Leaves the store as training and embedding would: a champion, its card, and the vectors of all shards."""

    def put(vectors: np.ndarray) -> None:
        put_embedded(vectors)
        store.create_json(card_key(CARD.version), CARD.to_json())

    return put


def test_without_a_champion_everything_is_skipped_and_says_so(run_dag: Callable[..., Any], store: Store) -> None:
    ran = run_dag("trailers_index", {})
    assert ran.state == "success", ran.log[-6000:]
    assert set(ran.tasks.values()) == {"skipped"}
    assert "no model has been promoted yet" in ran.log
    assert list(store.list_keys("")) == []


def test_builds_verifies_publishes_and_then_finds_nothing_to_do(
    run_dag: Callable[..., Any], store: Store, put_all: Callable[..., Any], make_vectors: Callable[..., np.ndarray]
) -> None:
    put_all(make_vectors(80))
    ran = run_dag("trailers_index", {})
    assert ran.state == "success", ran.log[-6000:]
    assert ran.tasks["embed/-1"] == "skipped"  # mapped over nothing: all of it is embedded
    published = ran.returned["publish/-1"]
    assert published["is_published"]
    assert ran.returned["summary/-1"] == {
        "n_shards": 0,
        "n_trailers": 0,
        "index": published["version"],
        "n_indexed": 80,
        "recall_at_10": 1.0,
    }
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == published["version"]
    before = {key: store.read_bytes(key) for key in store.list_keys("")}

    again = run_dag("trailers_index", {})
    assert again.state == "success"
    assert {key: store.read_bytes(key) for key in store.list_keys("")} == before


def test_a_bad_shard_fails_the_run_by_name_and_keeps_no_other_from_being_served(
    run_dag: Callable[..., Any],
    store: Store,
    put_embedded: Callable[..., Any],
    put_champion: Callable[[], str],
    make_vectors: Callable[..., np.ndarray],
) -> None:
    put_embedded(make_vectors(80))
    view = read_card(put_champion(), store).features.view
    bad = BatchRef(listed_on=DAY, number=7)
    manifest = ShardManifest(
        key=shard_key(bad), sha256="0" * 64, size_bytes=1, count=1, trailer_ids=("imdb-vi9",), film_ids=("imdb-tt9",),
        sampler="exact", features=view, schema_version=1, extractor_version="1",
    )  # fmt: skip
    store.create_json(shard_manifest_key(bad), manifest.to_json())
    store.put_bytes(shard_key(bad), b"not what it was")
    ran = run_dag("trailers_index", {})
    assert ran.state == "failed", ran.log[-6000:]
    states = {name: state for name, state in ran.tasks.items() if state != "success"}
    assert states == {"summary/-1": "failed", "question/-1": "skipped", "ask/-1": "skipped"}
    assert ran.tries["summary/-1"] == 1
    assert ran.returned["publish/-1"]["n"] == 80
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == ran.returned["publish/-1"]["version"]
    assert f"1 bad shards or embeddings were left out ({shard_key(bad)})" in ran.log


def test_the_next_run_does_not_undo_a_rollback(
    run_dag: Callable[..., Any],
    settings: Settings,
    store: Store,
    put_all: Callable[..., Any],
    make_vectors: Callable[..., np.ndarray],
) -> None:
    put_all(make_vectors(80))
    few_trees = settings.model_copy(update={"index": settings.index.model_copy(update={"n_trees": 50})})
    served = [build_index(chosen, store).version for chosen in (few_trees, settings)]
    for version in served:
        publish_index(version, settings, store)
    rollback_index(settings, store)
    ran = run_dag("trailers_index", {})
    assert ran.state == "failed"
    assert "it was gone back from: publish it by hand" in ran.log
    assert ran.tasks["ask/-1"] == "skipped"  # a person has said so already
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == served[0]


def test_an_index_that_is_not_good_enough_fails_the_run_the_old_one_stays_and_a_person_is_asked_once(
    run_dag: Callable[..., Any],
    settings: Settings,
    store: Store,
    put_all: Callable[..., Any],
    make_vectors: Callable[..., np.ndarray],
) -> None:
    poor = settings.model_copy(update={"index": settings.index.model_copy(update={"n_trees": 1, "search_effort": 1})})
    put_all(make_vectors(2000, spread=3.0))
    for ask, state in (("success", "queued"), ("skipped", "queued")):
        ran = run_dag("trailers_index", {}, changed=poor)
        assert ran.state == "failed"
        published = ran.returned["publish/-1"]
        assert (published["is_published"], published["is_worse"]) == (False, True), ran.log[-6000:]
        assert f"{published['version']} is not served, what was served stays: its recall@10" in ran.log
        assert not store.exists(CURRENT_INDEX_KEY)
        assert ran.tasks["ask/-1"] == ask, ran.log[-6000:]
        run_id = f"index-{published['version']}-for-none"
        conf = {"kind": "index", "version": published["version"], "against": None, "reason": published["reason"]}
        assert [run for run in _runs_of("trailers_approve") if run[0] == run_id] == [(run_id, state, conf)]
    ran = run_dag("trailers_index", {"force": True}, changed=poor)
    assert ran.state == "success", ran.log[-6000:]
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == published["version"]


def _runs_of(dag_id: str) -> list[tuple[str, str, Any]]:
    """Id, state and conf of every run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        runs = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id)).all()
        return [(run.run_id, str(run.state), run.conf) for run in runs]
