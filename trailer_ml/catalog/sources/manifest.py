"""The source `manifest`: a file of the user's own, .csv, .jsonl or .parquet, one trailer a row.

Columns: `id` and `url` must be there; `title`, `genres` (in csv with `|` between them, else a list), `year`, `plot`,
`kind`, `film` (rows with the same one are trailers of one film), `imdb_id`, `tmdb_id`, `listed_on` (a date; without it,
the day on which the row was first seen), `duration_s`, `language`, `is_official`, `video_title`, `page_url` and
`license` may be. A row that is wrong is set aside with its line; the others go on.

Does not belong here: any other column. An unknown one is an error: a typo would lose what it says.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trailer_ml.catalog.findings import describe, is_latest, last_day, set_aside
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.names import as_id, imdb_film_id
from trailer_ml.errors import SettingsError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Mapping

    from trailer_ml.catalog.source import Found
    from trailer_ml.records import Interval
    from trailer_ml.settings import Settings

TERMS = "The trailers of a file of your own: what you may download and learn from is yours to clear."
NEEDS_CONSENT = False
HAS_DATES = True
"""As far as its rows have them: those that have none are listed on the day before the crawl."""

NEEDED = ("id", "url")
COLUMNS = (
    *NEEDED, "title", "genres", "year", "plot", "kind", "film", "imdb_id", "tmdb_id", "listed_on", "duration_s",
    "language", "is_official", "video_title", "page_url", "license",
)  # fmt: skip
_AS_THEY_ARE = ("title", "plot", "kind", "duration_s", "language", "is_official", "video_title", "page_url", "license")
_PARQUET_ROWS = 1024


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Found]:
    """The rows of the file, in its order.

    Args:
        interval: rows without a date are listed on its last day, which has to be yesterday: an older interval gets
            only rows that say when they were listed.
        settings: all; `sources.manifest_path` and `catalog.genres_path` are read.

    Raises:
        SettingsError: there is no such file, or it is no such table.
    """
    path = Path(settings.sources.manifest_path)
    if not settings.sources.manifest_path:
        raise SettingsError("TRAILER_SOURCES_MANIFEST_PATH: set the file that lists your trailers")
    table = read_genre_table(settings.catalog.genres_path)
    seen: dict[str, int] = {}
    for line, row in _read_rows(path):
        if not (row.get("listed_on") or is_latest(interval)):
            continue
        try:
            if strange := [name for name in row if name not in COLUMNS]:
                raise ValueError(f"{strange[0]!r} is not a column")  # noqa: TRY301
            trailer = _to_trailer(row, table, last_day(interval))
            if trailer.trailer_id in seen:
                raise ValueError(f"id {row['id']!r} is on line {seen[trailer.trailer_id]} too")  # noqa: TRY301
        except ValueError as error:
            key = as_id(str(row.get("id") or f"line-{line}"))
            yield set_aside(f"manifest-{key}", "unreadable", f"{path.name}, line {line}: {describe(error)}")
            continue
        seen[trailer.trailer_id] = line
        yield trailer


def _to_trailer(row: Mapping[str, Any], table: Mapping[str, str], today: dt.date) -> Trailer:
    if not str(row.get("id") or "").strip():
        raise ValueError("it has no id")
    key = as_id(str(row["id"]))
    imdb = imdb_film_id(str(row.get("imdb_id") or ""))
    tmdb = str(row.get("tmdb_id") or "").removesuffix(".0")
    film = f"manifest-{as_id(str(row['film']))}" if row.get("film") else None
    names = tuple(filter(None, (imdb, f"tmdb-{tmdb}" if tmdb else None, film))) or (f"manifest-{key}",)
    genres, _ = map_genres(_words(row.get("genres")), table)
    given = {name: row[name] for name in _AS_THEY_ARE if row.get(name) not in {None, ""}}
    return Trailer.model_validate(
        {
            **given,
            "trailer_id": f"manifest-{key}",
            "film_id": names[0],
            "film_aliases": names[1:],
            "title": str(row.get("title") or row["id"]),
            "genres": genres,
            "year": row.get("year") or None,
            "source": "manifest",
            "source_url": str(row.get("url") or ""),
            "listed_on": row.get("listed_on") or today,
        }
    )


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return value.split("|") if isinstance(value, str) else [str(word) for word in value]


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line (of a Parquet file: row) and columns of each row."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise SettingsError(f"TRAILER_SOURCES_MANIFEST_PATH: {path} is none of {', '.join(readers)}")
    try:
        yield from readers[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"TRAILER_SOURCES_MANIFEST_PATH: {path} cannot be read: {error}") from None


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="more values than columns")
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            yield reader.line_num, row


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            yield line, row if isinstance(row, dict) else {"not a JSON object": text[:60]}


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            batches = file.iter_batches(batch_size=_PARQUET_ROWS)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except pa.ArrowException as error:
        raise SettingsError(f"TRAILER_SOURCES_MANIFEST_PATH: {path} is no Parquet file: {error}") from None


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    if missing := [name for name in NEEDED if name not in columns]:
        raise SettingsError(f"{path} has no column {' and no column '.join(missing)}")
    if strange := [name for name in columns if name not in COLUMNS]:
        raise SettingsError(f"{path} has a column {strange[0]!r}, which is none of {', '.join(COLUMNS)}")
