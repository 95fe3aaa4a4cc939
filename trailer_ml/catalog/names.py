"""Ids and titles in a form that can be a key, or be compared.

Does not belong here: which of two things with the same name is meant.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_ARTICLES = {"the", "a", "an"}


def youtube_trailer_id(youtube_id: str) -> str:
    """The trailer id of a YouTube video, whichever source names it.

    Ids here are lower case, YouTube's are not: which letters were capitals follows, as a number.

    Raises:
        ValueError: it is no YouTube id.

    >>> youtube_trailer_id("dQw4w9WgXcQ")
    'youtube-dqw4w9wgxcq.542'
    """
    if not _YOUTUBE_ID.fullmatch(youtube_id):
        raise ValueError(f"{youtube_id[:40]!r} is not a YouTube id")
    capitals = sum(1 << place for place, letter in enumerate(youtube_id) if letter.isupper())
    return f"youtube-{youtube_id.lower()}" + (f".{capitals:x}" if capitals else "")


def youtube_url(youtube_id: str) -> str:
    """The address of a YouTube video, put together anew so that it holds nothing else."""
    return f"https://www.youtube.com/watch?v={youtube_id}"


def imdb_film_id(number: str) -> str | None:
    """`imdb-tt0133093` from `tt0133093`, `133093` or `0133093`; None for anything else.

    >>> imdb_film_id("133093")
    'imdb-tt0133093'
    """
    found = re.fullmatch(r"(?:tt)?0*([0-9]{1,12})", number.strip())
    return f"imdb-tt{int(found[1]):07d}" if found and int(found[1]) else None


def as_id(text: str) -> str:
    """An id as it is if it can be a key; otherwise what of it can, and a hash of all of it.

    >>> as_id("spring-2019"), as_id("Ein Film! (1999)")
    ('spring-2019', 'ein-film-1999-0113dbed96')
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", text):
        return text
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    return "-".join(filter(None, (slug, hashlib.sha256(text.encode()).hexdigest()[:10])))


def comparable(title: str) -> str:
    """A title as it is compared: no accents, no case, no punctuation, no article in front or behind.

    >>> comparable("Amélie, The"), comparable("The Amelie!")
    ('amelie', 'amelie')
    """
    plain = unicodedata.normalize("NFKD", title).casefold()
    words = re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    if len(words) > 1 and words[-1] in _ARTICLES:
        words = words[:-1]
    return " ".join(words)


def split_year(title: str) -> tuple[str, int | None]:
    """A title and the year in brackets behind it.

    >>> split_year("Matrix, The (1999)"), split_year("Nosferatu")
    (('Matrix, The', 1999), ('Nosferatu', None))
    """
    found = re.fullmatch(r"(.*\S)\s*\(((?:18|19|20|21)\d\d)\)\s*", title)
    return (found[1], int(found[2])) if found else (title.strip(), None)
