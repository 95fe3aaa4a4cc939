"""What came since the index was built: found at once, searched exactly, never mixed, and gone when it is taken down."""

import datetime as dt
import subprocess
import sys

import numpy as np

from trailer_ml.embeddings.stored import find_champion
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import ServedIndex, open_current_index
from trailer_ml.records import BatchRef
from trailer_ml.search.neighbours import find_neighbours
from trailer_ml.search.similar import find_similar, find_similar_in
from trailer_ml.search.takedown import take_down
from trailer_ml.storage import embeddings_manifest_key
from trailer_ml.vectors import exact_top_k

LATER = dt.date(2026, 11, 21)


def publish_first(settings, store) -> None:
    assert publish_index(build_index(settings, store).version, settings, store).is_published


def test_answers_are_those_of_exact_search_over_both(settings, store, put_embedded, make_vectors, make_trailer) -> None:
    vectors = make_vectors(260, 32)
    put_embedded(vectors[:200])
    publish_first(settings, store)
    put_embedded(vectors[200:], [make_trailer(n, LATER) for n in range(200, 260)], day=LATER, batch_size=25)
    for row in (3, 230):
        answers = find_similar(f"imdb-vi{row:07d}", settings, store, k=20)
        _, best = exact_top_k(vectors[row : row + 1], vectors, 21)
        assert {int(answer.trailer_id[-7:]) for answer in answers} == set(best[0].tolist()) - {row}
        assert any(int(answer.trailer_id[-7:]) >= 200 for answer in answers)
        assert all(answer.score == answer.video_share + answer.audio_share for answer in answers)


def test_an_open_index_takes_in_what_comes_and_reads_each_batch_once(
    settings, store, put_embedded, make_vectors, make_trailer
) -> None:
    vectors = make_vectors(40)
    put_embedded(vectors[:30])
    publish_first(settings, store)
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        assert index.n == 30
        put_embedded(vectors[30:], [make_trailer(n, LATER) for n in range(30, 40)], day=LATER)
        take_in_rest(index, store)
        assert index.n == 30  # it looked less than a second ago
        index.look_again_at = 0.0
        take_in_rest(index, store)
        assert index.n == 40
        np.testing.assert_array_equal(index.vectors_of([39, 2, 30]), vectors[[39, 2, 30]])
        np.testing.assert_allclose(index.scores(vectors[0]), vectors @ vectors[0], atol=1e-6)
        store.delete(embeddings_manifest_key("m-1", batch_of(LATER)))
        index.look_again_at = 0.0
        take_in_rest(index, store)
        assert index.n == 40


def test_whoever_asks_while_trailers_are_taken_in_is_answered(settings, store, put_embedded, make_vectors) -> None:
    """Asked at every line of it, for every trailer that is known by then: of one film each old one and its new ones."""
    vectors = make_vectors(12)
    put_embedded(vectors[:8])
    publish_first(settings, store)
    with open_current_index(store, settings.index.cache_folder) as index:
        new = [
            index.trailers[n].model_copy(update={"trailer_id": f"new-{n}", "film_id": f"f{n % 2}"}) for n in range(4)
        ]
        n_known = []

        def ask(frame, event, _arg):
            if frame.f_code is not ServedIndex.take_in.__code__:
                return None
            for row in list(index.row_of.values()):
                own = {*index.rows_of_film[index.trailers[row].film_id]}
                find_neighbours(index, index.vector(row), 5, model_version="m-1", left_out=own, one_per_film=True)
            n_known.append(len(index.row_of))
            return ask

        traced = sys.gettrace()
        sys.settrace(ask)
        try:
            index.take_in(new, vectors[8:])
        finally:
            sys.settrace(traced)
        assert (n_known[0], n_known[-1]) == (8, 12)


def batch_of(day: dt.date) -> BatchRef:
    return BatchRef(listed_on=day, number=0)


def test_vectors_of_another_model_are_not_taken_in(settings, store, put_embedded, make_vectors, make_trailer) -> None:
    put_embedded(make_vectors(10))
    publish_first(settings, store)
    put_embedded(make_vectors(5, seed=1), [make_trailer(n, LATER) for n in range(10, 15)], day=LATER, model="m-2")
    assert find_champion(store) == "m-2"
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        assert index.n == 10


def test_damaged_vectors_wait_until_they_are_mended(
    settings, store, put_embedded, make_vectors, make_trailer, caplog
) -> None:
    put_embedded(make_vectors(10))
    publish_first(settings, store)
    more = make_vectors(5, seed=1)
    put_embedded(more, [make_trailer(n, LATER) for n in range(10, 15)], day=LATER)
    key = f"embeddings/m-1/{batch_of(LATER).path}.npz"
    whole = store.read_bytes(key)
    store.put_bytes(key, whole[:-1])
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        assert index.n == 10
        assert "not found until it is mended" in caplog.text
        store.put_bytes(key, whole)
        index.look_again_at = 0.0
        take_in_rest(index, store)
        assert index.n == 15


def test_an_index_that_does_not_name_its_batches_finds_the_rest_all_the_same(
    settings, store, put_embedded, make_vectors, make_trailer
) -> None:
    put_embedded(make_vectors(10))
    publish_first(settings, store)
    (key,) = (key for key in store.list_keys("index/") if key.endswith("batches.json"))
    store.delete(key)
    put_embedded(make_vectors(1, seed=1), [make_trailer(50, LATER)], day=LATER)
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        assert [trailer.trailer_id for trailer in index.trailers[10:]] == ["imdb-vi0000050"]


def test_what_another_process_takes_down_is_gone_from_an_open_index_at_its_next_answer(
    settings, store, put_embedded, make_vectors, make_trailer
) -> None:
    """Of the index, and of what came since."""
    put_embedded(make_vectors(20))
    publish_first(settings, store)
    put_embedded(make_vectors(3, seed=0), [make_trailer(n, LATER) for n in range(20, 23)], day=LATER)
    code = (
        "import sys\nfrom trailer_ml.settings import StoreSettings\nfrom trailer_ml.storage import Store\n"
        "from trailer_ml.search.takedown import take_down\n"
        "keys = dict(access_key_id=sys.argv[2], secret_access_key=sys.argv[3])\n"
        "where = StoreSettings.model_validate_json(sys.argv[1]).model_dump() | keys\n"
        "store = Store(StoreSettings(**where))\n"
        "for trailer_id in sys.argv[4:]: take_down(trailer_id, store)\n"
    )
    keys = settings.store
    with open_current_index(store, settings.index.cache_folder) as index:
        first = [answer.trailer_id for answer in find_similar_in(index, "imdb-vi0000000", store, 22)]
        gone = [first[0], next(trailer_id for trailer_id in first if int(trailer_id[-7:]) >= 20)]
        secrets = [keys.access_key_id.get_secret_value(), keys.secret_access_key.get_secret_value()]
        subprocess.run([sys.executable, "-c", code, keys.model_dump_json(), *secrets, *gone], check=True)
        second = {answer.trailer_id for answer in find_similar_in(index, "imdb-vi0000000", store, 22)}
        assert second == set(first) - set(gone)
    assert take_down(gone[0], store).is_new is False
