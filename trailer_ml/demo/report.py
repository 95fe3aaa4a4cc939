"""The results as a page with pictures: one file that needs nothing else.

Does not belong here: choosing what is shown (results.py).
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trailer_ml.demo.results import describe_model, describe_status, describe_title
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.pages import as_data_uri, load_template
from trailer_ml.processes import run_child
from trailer_ml.storage import thumb_key

if TYPE_CHECKING:
    from trailer_ml.demo.results import Results
    from trailer_ml.storage import Store

PICTURE_SIZE = 168


def write_report(results: Results, store: Store, world_folder: Path, folder: Path) -> Path:
    """Write the page; one that is there is replaced.

    Args:
        results: what is shown.
        store: has the trailers' pictures.
        world_folder: has the commercials.
        folder: gets `index.html`.

    Returns:
        The page.
    """
    template = load_template(
        "trailer_ml.demo", "report.html.j2", title=describe_title, mib=lambda n_bytes: n_bytes // 2**20
    )
    pictures = _Pictures(store, world_folder)
    page = template.render(
        results=results,
        picture=pictures.of_trailer,
        ad_picture=pictures.of_ad,
        status=describe_status(results.status),
        model=describe_model(results.card),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path, aside = folder / "index.html", folder / ".index.html.part"
    aside.write_text(page, encoding="utf-8")
    aside.replace(path)
    return path


class _Pictures:
    """Small pictures as data URIs."""

    def __init__(self, store: Store, world_folder: Path) -> None:
        self._store = store
        self._world_folder = world_folder
        self._made: dict[str, str] = {}

    def of_trailer(self, trailer_id: str) -> str:
        """The trailer's thumbnail."""
        if trailer_id not in self._made:
            self._made[trailer_id] = cut_picture(self._store.read_bytes(thumb_key(trailer_id)))
        return self._made[trailer_id]

    def of_ad(self, name: str) -> str:
        """The frame of a commercial that is most like all of them: none of a cut or a fade."""
        with tempfile.TemporaryDirectory(prefix="trailer-ml-report-") as folder:
            frame = Path(folder, "frame.png")
            video = self._world_folder / "ads" / f"{name}.mp4"
            arguments = [find_ffmpeg(None), "-nostdin", "-v", "error", "-i", str(video),
                         "-vf", "thumbnail=n=1000", "-frames:v", "1", str(frame)]  # fmt: skip
            run_child(arguments, timeout_s=30)
            return cut_picture(frame.read_bytes())


def cut_picture(picture: bytes) -> str:
    """A picture, cut to a small square, as a data URI."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(picture)) as image:
        square: Any = ImageOps.fit(image.convert("RGB"), (PICTURE_SIZE, PICTURE_SIZE))
    packed = io.BytesIO()
    square.save(packed, "JPEG", quality=82)
    return as_data_uri(packed.getvalue())
