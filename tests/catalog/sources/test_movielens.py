"""MovieLens in its true format: ids joined, years taken from titles, capitals of YouTube ids kept."""

import datetime as dt
from pathlib import Path

import pytest

from trailer_ml.catalog.sources.movielens import list_trailers
from trailer_ml.errors import SettingsError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings, SourcesSettings

YESTERDAY = Interval.of_day(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))
FILES = {
    "ml-youtube.csv": 'youtubeId,movieId,title\nK26_sDKnvMU,1,Toy Story (1995)\n3LPANjHlPxo,2,Jumanji (1995)\n'
    'dQw4w9WgXcQ,11,"American President, The (1995)"\ndqw4w9wgxcq,11,"American President, The (1995)"\n'
    "tooshort,3,Grumpier Old Men (1995)\nAAAAAAAAAAA,99,Unlisted (2001)\n",
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113497,8844\n11,0112346,\n3,0113228,15602\n",
    "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation|Children|Comedy|Fantasy\n"
    '2,Jumanji (1995),(no genres listed)\n11,"American President, The (1995)",Comedy|Drama|Romance\n',
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _list(folder: Path) -> list[Trailer | Quarantine]:
    return list(list_trailers(YESTERDAY, Settings(sources=SourcesSettings(movielens_folder=str(folder)))))


def test_the_three_files_are_joined(folder: Path) -> None:
    first, second, *_ = _list(folder)
    assert first == Trailer(
        trailer_id="youtube-k26_sdknvmu.661", film_id="imdb-tt0114709", film_aliases=("tmdb-862", "movielens-1"),
        title="Toy Story", genres=("Adventure", "Animation", "Family", "Comedy", "Fantasy"), year=1995,
        source="movielens", source_url="https://www.youtube.com/watch?v=K26_sDKnvMU", listed_on=YESTERDAY.start,
    )  # fmt: skip
    assert isinstance(second, Trailer)
    assert second.genres == ()


def test_ids_that_differ_in_capitals_are_two_and_a_film_without_links_has_its_own_name(folder: Path) -> None:
    trailers = [found for found in _list(folder) if isinstance(found, Trailer)]
    president = [trailer for trailer in trailers if trailer.film_id == "imdb-tt0112346"]
    assert len({trailer.trailer_id for trailer in president}) == 2
    assert president[0].title == "American President, The"
    assert trailers[-1].film_id == "movielens-99"
    assert (trailers[-1].title, trailers[-1].year) == ("Unlisted", 2001)


def test_a_row_that_is_wrong_is_set_aside_with_its_line(folder: Path) -> None:
    [wrong] = [found for found in _list(folder) if isinstance(found, Quarantine)]
    assert (wrong.id, wrong.reason) == ("movielens-3", "unreadable")
    assert wrong.detail == "ml-youtube.csv, line 6: 'tooshort' is not a YouTube id"


def test_a_missing_file_or_column_is_one_clear_error(folder: Path) -> None:
    (folder / "links.csv").write_text("movieId,imdb\n")
    with pytest.raises(SettingsError, match=r"links.csv has no column imdbId, tmdbId"):
        _list(folder)
    (folder / "links.csv").unlink()
    with pytest.raises(SettingsError, match=r"links.csv cannot be read"):
        _list(folder)
    with pytest.raises(SettingsError, match="set the folder"):
        list(list_trailers(YESTERDAY, Settings()))
