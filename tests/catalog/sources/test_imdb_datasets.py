"""IMDb's data set in its true format, streamed from a file and from a server, joined to another source's trailers."""

import gzip
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trailer_ml.catalog.sources.imdb_datasets import join_titles
from trailer_ml.errors import SettingsError, SourceUnavailableError
from trailer_ml.records import Quarantine, Trailer
from trailer_ml.settings import Settings, SourcesSettings

HEAD = "tconst\ttitleType\tprimaryTitle\toriginalTitle\tisAdult\tstartYear\tendYear\truntimeMinutes\tgenres\n"
TABLE = (
    f"{HEAD}tt0000001\tmovie\tThe \"Tide\"\tDie Flut\t0\t2001\t\\N\t101\tDrama,Romance\n"
    "tt0000002\tmovie\tBare\tBare\t0\t\\N\t\\N\t\\N\t\\N\ntt0000003\ttvSeries\tSerial\tSerial\t0\t2004\t2006\t\\N\tDrama\n"
    "tt0000004\tmovie\tLate\tLate\t1\t2010\t\\N\t80\tDrama\n"
)  # fmt: skip


def _join(where: str, trailers: list[Trailer]) -> list[Trailer | Quarantine]:
    return list(join_titles(trailers, Settings(sources=SourcesSettings(imdb_datasets_url=where))))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "title.basics.tsv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    return path


@pytest.fixture
def served(table: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(table.parent))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{table.name}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_titles_are_joined_by_any_name_of_the_film(
    table: Path, served: str, make_trailer: Callable[..., Trailer]
) -> None:
    trailers = [
        make_trailer(1, film_id="tmdb-5", film_aliases=("imdb-tt0000001",), title="tide", genres=("Horror",)),
        make_trailer(2, film_id="imdb-tt0000002", genres=("Action",), year=1999),
        make_trailer(3, film_id="imdb-tt0000003"), make_trailer(4, film_id="imdb-tt0000004"),
        make_trailer(5, film_id="imdb-tt0000099"), make_trailer(6, film_id="manifest-x"),
    ]  # fmt: skip
    for where in (str(table), served):
        first, second, third, fourth, *rest = _join(where, trailers)
        assert isinstance(first, Trailer)
        assert (first.title, first.year, first.genres) == ('The "Tide"', 2001, ("Drama", "Romance"))
        assert isinstance(second, Trailer)
        assert (second.title, second.year, second.genres) == ("Bare", None, ("Action",))
        assert [(entry.id, entry.reason) for entry in (third, fourth) if isinstance(entry, Quarantine)] == [
            ("imdb-tt0000003", "not_a_movie"), ("imdb-tt0000004", "adult"),
        ]  # fmt: skip
        assert rest == trailers[4:]


def test_nothing_is_fetched_for_films_without_an_imdb_id(make_trailer: Callable[..., Trailer]) -> None:
    trailer = make_trailer(1, film_id="manifest-x")
    assert _join("http://127.0.0.1:9/none.tsv.gz", [trailer]) == [trailer]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(TABLE.encode())[:-20], "cannot be read to its end"),
        (b"<html>", "cannot be read to its end"),
        (gzip.compress(b"id\tname\n"), "is no title.basics"),
        (gzip.compress(f"{HEAD}tt0000001\tmovie\n".encode()), "cannot be read to its end"),
    ],
)
def test_a_file_that_is_not_whole_is_not_half_used(
    tmp_path: Path, make_trailer: Callable[..., Trailer], content: bytes, message: str
) -> None:
    (tmp_path / "t.gz").write_bytes(content)
    with pytest.raises(SourceUnavailableError, match=message):
        _join(str(tmp_path / "t.gz"), [make_trailer(1, film_id="imdb-tt0000001")])


def test_a_missing_file_and_a_missing_page_are_told_apart(served: str, make_trailer: Callable[..., Trailer]) -> None:
    trailers = [make_trailer(1, film_id="imdb-tt0000001")]
    with pytest.raises(SettingsError, match="there is no file"):
        _join("none.tsv.gz", trailers)
    with pytest.raises(SourceUnavailableError, match="404"):
        _join(f"{served}x", trailers)


def test_a_redirect_may_lead_inside_and_is_not_followed(
    served: str, table: Path, make_trailer: Callable[..., Trailer]
) -> None:
    (table.parent / "elsewhere").mkdir()  # this server sends who asks for a folder to its name with a slash
    with pytest.raises(SourceUnavailableError, match="not followed"):
        _join(served.replace(table.name, "elsewhere"), [make_trailer(1, film_id="imdb-tt0000001")])
