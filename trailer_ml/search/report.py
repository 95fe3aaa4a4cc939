"""The pages of search: the templates of this room, and the pictures of trailers for them.

Does not belong here: what every page is (trailer_ml/pages.py), what is on one (see templates/ and who renders them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trailer_ml.errors import MissingObjectError
from trailer_ml.pages import as_data_uri, load_template
from trailer_ml.records import AdMatch
from trailer_ml.storage import ads_key, thumb_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.storage import Store


def render_page(template: str, **facts: Any) -> str:
    """A page of templates/, everything in it escaped unless the template says otherwise.

    Args:
        template: such as `ads.html.j2`.
        **facts: what it shows; a fact it asks for and does not get is an error.
    """
    return load_template("trailer_ml.search", template, percent=_percent).render(**facts)


def read_thumbs(trailer_ids: Iterable[str], store: Store) -> dict[str, str]:
    """The pictures of some trailers as data URIs; an empty text where there is none."""
    return {trailer_id: _read_thumb(trailer_id, store) for trailer_id in sorted(set(trailer_ids))}


def forget_reports(trailer_id: str, store: Store) -> int:
    """Delete the page of every run of ads that shows a trailer; how many there were. Their lines stay."""
    n_deleted = 0
    for key in [key for key in store.list_keys("ads/") if key.endswith("/matches.jsonl")]:
        matches = map(AdMatch.model_validate_json, store.read_bytes(key).splitlines())
        page = ads_key(key.split("/")[1], "report.html")
        if trailer_id in {film.best.trailer_id for match in matches for film in match.films} and store.exists(page):
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
