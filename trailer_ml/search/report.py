"""The pages of search: the templates of this room, and the pictures of trailers for them.

Does not belong here: what every page is (trailer_ml/pages.py), what is on one (see templates/ and who renders them).
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trailer_ml.errors import MissingObjectError
from trailer_ml.pages import as_data_uri, load_template
from trailer_ml.records import AdMatch
from trailer_ml.search.footage import hide_secrets
from trailer_ml.storage import ads_key, thumb_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.records import FilmAds
    from trailer_ml.storage import Store

N_FILMS = 24
"""Films with their ads on the page of a run; its lines have all."""


def render_page(template: str, **facts: Any) -> str:
    """A page of templates/, everything in it escaped unless the template says otherwise.

    Args:
        template: such as `ads.html.j2`.
        **facts: what it shows; a fact it asks for and does not get is an error.
    """
    return load_template("trailer_ml.search", template, percent=_percent).render(**facts)


def show_source(match: AdMatch) -> AdMatch:
    """An ad as it is shown to people: of an address neither what signs it nor who asked, of a file its name alone.

    >>> show_source(AdMatch(ad="a", source="https://u:p@x.org/a.mp4?X-Amz-Signature=s")).source
    'https://x.org/a.mp4'
    >>> show_source(AdMatch(ad="a", source="/home/me/a.mp4", detail="there is no file /home/me/a.mp4")).detail
    'there is no file a.mp4'
    """
    source = hide_secrets(match.source)
    shown = source if "://" in source else PurePath(source).name
    detail = match.detail.replace(match.source, shown) if match.source else match.detail
    return match.model_copy(update={"source": shown, "detail": detail})


def sort_films(placed: Iterable[FilmAds]) -> list[FilmAds]:
    """Those that were given an ad, the film that an ad suits best first."""
    return sorted((film for film in placed if film.ads), key=lambda film: (-film.ads[0].score, film.film_id))


def read_thumbs(trailer_ids: Iterable[str], store: Store) -> dict[str, str]:
    """The pictures of some trailers as data URIs; an empty text where there is none."""
    return {trailer_id: _read_thumb(trailer_id, store) for trailer_id in sorted(set(trailer_ids))}


def forget_reports(trailer_id: str, store: Store) -> int:
    """Delete the page of every run of ads that shows a trailer; how many there were. Their lines stay.

    So goes the page of a run whose lines are gone or damaged: nobody can say whom it shows.
    """
    n_deleted = 0
    for page in [key for key in store.list_keys("ads/") if key.endswith("/report.html")]:
        try:
            lines = store.read_bytes(ads_key(page.split("/")[1], "matches.jsonl")).splitlines()
            shown = {film.best.trailer_id for line in lines for film in AdMatch.model_validate_json(line).films}
        except (ValueError, MissingObjectError):
            shown = {trailer_id}
        if trailer_id in shown:
            store.delete(page)
            n_deleted += 1
    return n_deleted


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}"


def _read_thumb(trailer_id: str, store: Store) -> str:
    try:
        return as_data_uri(store.read_bytes(thumb_key(trailer_id)))
    except MissingObjectError:
        return ""
