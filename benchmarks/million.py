"""The index at a million trailers: build, file, memory and latency beside a quarter of a million, in a process each.

It is no part of `make bench`: it takes minutes, 1 GB for the vectors and as much again for what is mapped.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import table
from trailer_ml.index.build import write_annoy
from trailer_ml.index.recall import measure_recall
from trailer_ml.index.serve import ServedIndex
from trailer_ml.records import EmbeddedTrailer, IndexManifest
from trailer_ml.settings import IndexSettings
from trailer_ml.storage import encode_json
from trailer_ml.vectors import normalise

SIZES, DIM, QUERIES = (250_000, 1_000_000), 256, 1000


def run() -> str:
    rows = []
    for n in SIZES:
        child = [sys.executable, "-m", "benchmarks.million", str(n)]
        found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        rows.append([f"{n:,}", *found.values()])
    heads = (
        "trailers", "build, CPU s", "a trailer, ms", "file", "memory to build", "to open", "memory to serve",
        "recall@10", "query, CPU ms", "99 of 100 below",
    )  # fmt: skip
    return table(f"Index: a million vectors of {DIM} numbers, {IndexSettings().n_trees} trees", heads, rows)


def measure(n: int) -> dict[str, str]:
    settings = IndexSettings()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIM)).astype(np.float32)
    vectors = rng.standard_normal((n, DIM), dtype=np.float32)
    for start in range(0, n, 10_000):
        block = slice(start, start + 10_000)
        vectors[block] = normalise(vectors[block] + centres[rng.integers(0, 200, len(vectors[block]))])
    manifest = IndexManifest(
        version="i-1", model_version="m-1", n=n, dim=DIM, video_dim=DIM // 2, n_trees=settings.n_trees, seed=1,
        search_effort=settings.search_effort, recall_at_10=0, n_queries=0, index_sha256="", ids_sha256="",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cpu = time.process_time()
        write_annoy(folder / "index.ann", vectors, n_trees=settings.n_trees, seed=1)
        build_s = time.process_time() - cpu
        build_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        trailers = (EmbeddedTrailer(trailer_id=f"t-{i}", film_id=f"f-{i}", title=f"Film {i}") for i in range(n))
        (folder / "ids.json").write_bytes(encode_json([trailer.to_json() for trailer in trailers]))
        before_mb = read_rss_mb()
        cpu = time.process_time()
        with ServedIndex(folder, manifest) as index:
            open_s, open_mb = time.process_time() - cpu, read_rss_mb() - before_mb
            taken = []
            for row in np.linspace(0, n - 1, QUERIES).astype(int):
                cpu = time.process_time()
                index.nearest(vectors[row], 20, model_version="m-1")
                taken.append(1000 * (time.process_time() - cpu))
            recall = measure_recall(index, vectors, QUERIES).value
        size_mb = (folder / "index.ann").stat().st_size / 1e6
    return {
        "build": f"{build_s:.0f}",
        "each": f"{1000 * build_s / n:.3f}",
        "file": f"{size_mb:,.0f} MB",
        "build_mb": f"{build_mb:,.0f} MB",
        "open": f"{open_s:.0f} s",
        "open_mb": f"{open_mb:,.0f} MB",
        "recall": f"{recall:.4f}",
        "median": f"{np.median(taken):.2f}",
        "p99": f"{np.percentile(taken, 99):.2f}",
    }


def read_rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
