"""A file of one's own: every format, every column, and each wrong row named by its line."""

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trailer_ml.catalog.sources.manifest import COLUMNS, list_trailers
from trailer_ml.errors import SettingsError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings, SourcesSettings

YESTERDAY = Interval.of_day(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))
ROW = {
    "id": "spring", "url": "https://download.example/spring.mp4", "title": "Spring", "year": 2019, "kind": "teaser",
    "genres": ["Fantasy", "Science Fiction"], "plot": "A shepherd.", "film": "spring", "imdb_id": "tt9999999",
    "tmdb_id": 593048, "listed_on": "2026-11-20", "duration_s": 61.5, "language": "en", "is_official": True,
    "video_title": "Spring - Teaser",
    "page_url": "https://example/spring", "license": "https://creativecommons.org/licenses/by/4.0/",
}  # fmt: skip


def _list(path: Path, interval: Interval = YESTERDAY) -> list[Trailer | Quarantine]:
    return list(list_trailers(interval, Settings(sources=SourcesSettings(manifest_path=str(path)))))


def _write(folder: Path, suffix: str, rows: list[dict[str, object]]) -> Path:
    path = folder / f"trailers{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        flat = [{k: "|".join(v) if isinstance(v, list) else str(v) for k, v in row.items()} for row in rows]
        path.write_text("\n".join([",".join(flat[0]), *(",".join(row.values()) for row in flat)]))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_column_in_every_format(tmp_path: Path, suffix: str) -> None:
    assert set(ROW) == set(COLUMNS)
    [found] = _list(_write(tmp_path, suffix, [ROW]))
    assert found == Trailer(
        trailer_id="manifest-spring", film_id="imdb-tt9999999", film_aliases=("tmdb-593048", "manifest-spring"),
        title="Spring", kind="teaser", genres=("Fantasy", "Sci-Fi"), year=2019, plot="A shepherd.", source="manifest",
        source_url="https://download.example/spring.mp4", page_url="https://example/spring",
        listed_on=dt.date(2026, 11, 20), duration_s=61.5, language="en", is_official=True,
        video_title="Spring - Teaser", license="https://creativecommons.org/licenses/by/4.0/",
    )  # fmt: skip


def test_two_columns_are_enough_and_a_row_without_a_date_is_listed_yesterday(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,url\nEin Film! (1999),http://127.0.0.1/x.mp4\n")
    [found] = _list(path)
    assert isinstance(found, Trailer)
    assert (found.trailer_id, found.film_id) == ("manifest-ein-film-1999-0113dbed96",) * 2
    assert (found.title, found.listed_on) == ("Ein Film! (1999)", YESTERDAY.start)
    assert _list(path, Interval.of_day(dt.date(2026, 1, 5))) == []


def test_a_wrong_row_is_set_aside_with_its_line_and_the_others_go_on(tmp_path: Path) -> None:
    rows = [
        '{"id": "a", "url": "http://127.0.0.1/a"}', '{"id": "b", "url": "http://127.0.0.1/b", "year": "soon"}', "[1]",
        '{"id": "a", "url": "http://127.0.0.1/c"}', '{"url": "http://127.0.0.1/d"}', "",
        '{"id": "e", "url": "http://127.0.0.1/e", "gneres": ["Drama"]}', '{"id": "f", "url": "http://127.0.0.1/f"}',
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    found = _list(tmp_path / "t.jsonl")
    assert [entry.trailer_id for entry in found if isinstance(entry, Trailer)] == ["manifest-a", "manifest-f"]
    details = [entry.detail for entry in found if isinstance(entry, Quarantine)]
    assert [detail.partition(":")[0] for detail in details] == [f"t.jsonl, line {line}" for line in (2, 3, 4, 5, 7)]
    assert "year: Input should be a valid integer" in details[0]
    assert "line 1 too" in details[2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "id,title\n1,x\n", "no column url"),
        ("t.csv", "id,url,gneres\n1,x,Drama\n", "a column 'gneres'"),
        ("t.csv", "", "no column id and no column url"),
        ("t.txt", "id,url\n", "none of .csv, .jsonl, .parquet"),
        ("t.parquet", "not parquet", "no Parquet file"),
        ("t.csv", b"id,url\n\xff\xfe,x\n", "cannot be read"),
    ],
)
def test_what_is_no_such_table_is_one_clear_error(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError, match=message):
        _list(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"TRAILER_SOURCES_MANIFEST_PATH: .*none.csv cannot be read"):
        _list(tmp_path / "none.csv")
    with pytest.raises(SettingsError, match="set the file"):
        list(list_trailers(YESTERDAY, Settings()))
