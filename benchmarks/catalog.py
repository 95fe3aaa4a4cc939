"""A catalogue as large as MovieLens 20M's trailers, from its files into the store, against reading its files alone."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
import string
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import table, wall_seconds
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.processes import run_child
from trailer_ml.settings import Settings

N_TRAILERS, N_FILMS = 25_623, 27_278
GENRES = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "IMAX", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western", "(no genres listed)",
)  # fmt: skip
YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


def write_movielens(folder: Path) -> None:
    """The three files in their true format, with made-up films."""
    draw = random.Random(0)
    letters = string.ascii_letters + string.digits + "_-"
    films = [(str(n), f"The Film {n}, A ({draw.randint(1920, 2018)})") for n in range(1, N_FILMS + 1)]
    rows = {
        "movies.csv": [("movieId", "title", "genres")]
        + [(n, title, "|".join(draw.sample(GENRES[:-1], draw.randint(1, 3)))) for n, title in films],
        "links.csv": [("movieId", "imdbId", "tmdbId")]
        + [(n, f"{int(n) + 100_000:07d}", n if draw.random() < 0.99 else "") for n, _ in films],
        "ml-youtube.csv": [("youtubeId", "movieId", "title")]
        + [("".join(draw.choices(letters, k=11)), *film) for film in draw.sample(films, N_TRAILERS)],
    }
    for name, lines in rows.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)


def crawl(job_path: str) -> None:
    """What the child does: one crawl, and how much memory it took."""
    import resource

    from trailer_ml.catalog.crawl import crawl_catalog
    from trailer_ml.records import Interval
    from trailer_ml.storage import Store

    job = json.loads(Path(job_path).read_text())
    settings = Settings.model_validate(job)
    summary = crawl_catalog(Interval.of_day(YESTERDAY), settings, Store(settings.store))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"n_listed": summary.n_listed, "peak_mb": peak_mb}))


def run() -> str:
    with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as store:
        folder = Path(name, "movielens")
        folder.mkdir()
        write_movielens(folder)
        job = Settings(store=store).model_dump(mode="json")
        job["catalog"] |= {"sources": ["movielens"], "accept_terms": ["movielens"]}
        job["sources"]["movielens_folder"] = str(folder)
        for key in ("access_key_id", "secret_access_key"):
            job["store"][key] = getattr(store, key).get_secret_value()
        Path(name, "job.json").write_text(json.dumps(job))
        result = {}

        def in_child() -> None:
            arguments = [sys.executable, "-m", "benchmarks.catalog", str(Path(name, "job.json"))]
            result.update(json.loads(run_child(arguments, timeout_s=300).stdout))

        def only_read() -> None:
            for path in sorted(folder.iterdir()):
                with path.open(encoding="utf-8", newline="") as file:
                    list(csv.DictReader(file))

        crawl_s, read_s = wall_seconds(in_child), wall_seconds(only_read)
    rows = [
        ["from files to the store, a new process", f"{crawl_s:.1f} s", f"{crawl_s / read_s:.0f} × reading the files"],
        ["reading the files alone (csv)", f"{read_s:.2f} s", ""],
        ["trailers listed", f"{result['n_listed']:,}", ""],
        ["peak memory", f"{result['peak_mb']:.0f} MB", ""],
    ]
    return table(f"Catalogue: {N_TRAILERS:,} rows in MovieLens's format", ("", "measured", "ratio"), rows)


if __name__ == "__main__":
    crawl(sys.argv[1])
