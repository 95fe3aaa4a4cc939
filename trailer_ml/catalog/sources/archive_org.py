"""The source `archive_org`: what people put on archive.org as trailers, where its licence is an open one.

Most trailers there belong to a studio. Only an item that names a licence or a public-domain mark of creativecommons.org
is listed, and that name goes with it; the others are set aside as `not_licensed`. What an uploader says of a licence is
not checked by anybody.

Does not belong here: asking politely (http.py).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import html
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from trailer_ml.catalog.findings import check_found, read_rows, set_aside, utc_date
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.http import ApiClient, JsonObject
from trailer_ml.catalog.names import imdb_film_id, split_year
from trailer_ml.errors import SourceUnavailableError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trailer_ml.records import Interval, Quarantine
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

TERMS = (
    "archive.org gives each item under the terms that its uploader names. Only those with a Creative Commons licence "
    "or public-domain mark are listed, each with its own: some forbid commercial use (NC) or changes (ND)."
)
NEEDS_CONSENT = False
HAS_DATES = True

_ROWS = 100
_MAX_ROWS = 10_000
"""The search shows no more."""
_FIELDS = ("identifier", "title", "subject", "licenseurl", "publicdate", "addeddate", "year", "description")
_FORMATS = {"h.264", "h.264 IA", "h.264 HD", "512Kb MPEG4", "MPEG4"}
_TAG = re.compile(r"<[^>]*>")


def _as_list(value: Any) -> list[Any]:
    """archive.org gives one word as a string and several as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _as_words(value: Any) -> list[str]:
    return [str(word) for word in _as_list(value)]


Words = Annotated[list[str], BeforeValidator(_as_words)]


class _Item(BaseModel):
    identifier: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    title: Words = Field(min_length=1)
    subject: Words = []
    licenseurl: Words = []
    publicdate: dt.datetime | None = None
    addeddate: dt.datetime | None = None
    year: Words = []
    description: Words = []

    @property
    def own_id(self) -> str:
        """Ids here are lower case; where the item's is not, a part of its hash keeps two of them apart."""
        plain = self.identifier.lower()
        digest = hashlib.sha256(self.identifier.encode()).hexdigest()[:8]
        return f"archive_org-{plain}" + ("" if plain == self.identifier else f".{digest}")


class _Response(BaseModel):
    docs: list[Any]
    num_found: int = Field(alias="numFound")


class _Page(BaseModel):
    response: _Response


class _File(BaseModel):
    name: str
    format: str
    source: str = ""
    size: int = Field(gt=0)
    length: str | float | None = None
    private: str | bool = False


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Trailer | Quarantine]:
    """The items of `sources.archive_org_query` that were made public in the interval (UTC), with an open licence.

    Args:
        interval: by the date at which archive.org made them public.
        settings: all; `sources` is read.

    Raises:
        SourceBlockedError: archive.org refuses us.
        RateLimitedError: it asks for a longer wait than is set.
        SourceUnavailableError: it does not answer, or not as it should, as it does for a query that it cannot read.
    """
    table = read_genre_table(settings.catalog.genres_path)
    with ApiClient("archive_org", settings.sources.archive_org_url, settings) as client:
        url = settings.sources.archive_org_url.rstrip("/")
        read = partial(_read_item, client=client, url=url, table=table, interval=interval)
        yield from check_found("archive_org", read_rows("archive_org", _rows(client, interval, settings), read), table)


def _rows(client: ApiClient, interval: Interval, settings: Settings) -> Iterator[Any]:
    question = {
        "q": f"({settings.sources.archive_org_query}) AND publicdate:[{interval.start} TO {interval.end}]",
        "fl[]": _FIELDS,
        "sort[]": ("publicdate asc", "identifier asc"),
        "rows": _ROWS,
        "output": "json",
    }
    most = min(settings.sources.max_items, _MAX_ROWS)
    start, n_found = 0, 1
    while start < min(n_found, most):
        page = client.get("/advancedsearch.php", {**question, "page": start // _ROWS + 1}, _Page).response
        n_found = page.num_found
        if not page.docs and start < n_found:
            raise SourceUnavailableError(f"archive_org: it has {n_found} items and shows {start}")
        yield from page.docs[: most - start]
        start += _ROWS
    if n_found > most:
        logger.warning("archive.org has %d items, %d are asked for (TRAILER_SOURCES_MAX_ITEMS)", n_found, most)


def _read_item(
    row: Any, *, client: ApiClient, url: str, table: Mapping[str, str], interval: Interval
) -> Iterator[Trailer | Quarantine]:
    item = _Item.model_validate(row)
    moment = item.publicdate or item.addeddate
    if moment is None:
        raise ValueError("publicdate: there is none")
    if not interval.start <= utc_date(moment) < interval.end:
        return
    license_url = next((named.strip() for named in item.licenseurl if _is_open(named)), "")
    if not license_url:
        what = ", ".join(item.licenseurl) or "none"
        yield set_aside(item.own_id, "not_licensed", f"its licence is no Creative Commons one: {what}")
        return
    answer = client.find(f"/metadata/{item.identifier}", {}, JsonObject)
    more = answer.root if answer else {}
    file = _choose_file(_as_list(more.get("files")))
    if file is None:
        yield set_aside(item.own_id, "no_trailer", f"{item.identifier} has no mp4 that can be had")
        return
    title, year = split_year(item.title[0])
    subjects = [word for subject in item.subject for word in re.split(r"[;,]", subject)]
    genres, unknown = map_genres(subjects, table)
    yield Trailer(
        trailer_id=item.own_id,
        film_id=_imdb_id(more.get("metadata")) or item.own_id,
        title=title,
        genres=tuple(genre for genre in genres if genre not in unknown),  # a subject may be any word
        year=year or next((int(word) for word in item.year if re.fullmatch(r"\d{4}", word)), None),
        plot=" ".join(html.unescape(_TAG.sub(" ", " ".join(item.description))).split()),
        source="archive_org",
        source_url=f"{url}/download/{item.identifier}/{quote(file.name)}",
        page_url=f"{url}/details/{item.identifier}",
        listed_on=utc_date(moment),
        duration_s=_seconds(file.length),
        video_title=item.title[0],
        license=license_url,
    )


def _imdb_id(metadata: Any) -> str | None:
    names = _as_words(metadata.get("external-identifier")) if isinstance(metadata, dict) else []
    numbers = (name.removeprefix("urn:imdb:") for name in names if name.startswith("urn:imdb:"))
    return next((film_id for number in numbers if (film_id := imdb_film_id(number))), None)


def _is_open(license_url: str) -> bool:
    parts = urlsplit(license_url.strip())
    is_theirs = parts.hostname in {"creativecommons.org", "www.creativecommons.org"}
    return is_theirs and parts.path.startswith(("/licenses/", "/publicdomain/"))


def _choose_file(rows: Iterable[Any]) -> _File | None:
    """The smallest mp4 with a picture that archive.org made of what was uploaded, or else that was uploaded."""
    files = []
    for row in rows:
        try:
            file = _File.model_validate(row)
        except ValidationError:  # many files have no size, and are no video
            continue
        is_video = file.name.lower().endswith(".mp4") and file.format in _FORMATS
        is_safe = not file.name.startswith("/") and ".." not in file.name.split("/")
        if is_video and is_safe and str(file.private).lower() != "true":
            files.append(file)
    return min(files, key=lambda file: (file.source != "derivative", file.size, file.name), default=None)


def _seconds(length: str | float | None) -> float | None:
    """A length: seconds, or hours, minutes and seconds with colons.

    >>> _seconds("34.87"), _seconds("1:02:03"), _seconds("unknown")
    (34.87, 3723.0, None)
    """
    if not re.fullmatch(r"\d+(:\d+)*(\.\d+)?", str(length)):
        return None
    seconds = 0.0
    for part in str(length).split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
