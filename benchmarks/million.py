"""The index at a million trailers, in one file and in four, beside a quarter of a million; a process for each.

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
from trailer_ml.index.effort import FIRST_EFFORT, choose_effort
from trailer_ml.index.recall import measure_recall
from trailer_ml.index.serve import ServedIndex
from trailer_ml.index.split import write_files
from trailer_ml.index.stored import files_of
from trailer_ml.records import EmbeddedTrailer, IndexManifest
from trailer_ml.settings import IndexSettings
from trailer_ml.storage import encode_json
from trailer_ml.vectors import normalise

SIZES, DIM, QUERIES = ((250_000, 1), (1_000_000, 1), (1_000_000, 4)), 256, 1000


def run() -> str:
    rows = []
    for n, n_files in SIZES:
        child = [sys.executable, "-m", "benchmarks.million", str(n), str(n_files)]
        found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        rows.append([f"{n:,} in {n_files}", *found.values()])
    heads = (
        "trailers, files", "build, CPU s", "a trailer, ms", "size", "memory to build", "to open", "memory to serve",
        "effort", "chosen in, CPU s", "recall@10", "query, CPU ms", "99 of 100 below",
    )  # fmt: skip
    return table(f"Index: a million vectors of {DIM} numbers, {IndexSettings().n_trees} trees", heads, rows)


def measure(n: int, n_files: int) -> dict[str, str]:
    settings = IndexSettings()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIM)).astype(np.float32)
    vectors = rng.standard_normal((n, DIM), dtype=np.float32)
    for start in range(0, n, 10_000):
        block = slice(start, start + 10_000)
        vectors[block] = normalise(vectors[block] + centres[rng.integers(0, 200, len(vectors[block]))])
    manifest = IndexManifest(
        version="i-1", model_version="m-1", n=n, dim=DIM, video_dim=DIM // 2, n_trees=settings.n_trees, seed=1,
        search_effort=FIRST_EFFORT, recall_at_10=0, n_queries=0, index_sha256="", more_sha256=("",) * (n_files - 1),
        ids_sha256="",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / name for name in files_of(manifest) if name.endswith(".ann")]
        cpu = cpu_seconds()
        write_files(paths, vectors, n_trees=settings.n_trees, seed=1)
        build_s = cpu_seconds() - cpu
        who = resource.RUSAGE_CHILDREN if n_files > 1 else resource.RUSAGE_SELF
        build_mb = resource.getrusage(who).ru_maxrss / 1024
        trailers = (EmbeddedTrailer(trailer_id=f"t-{i}", film_id=f"f-{i}", title=f"Film {i}") for i in range(n))
        (folder / "ids.json").write_bytes(encode_json([trailer.to_json() for trailer in trailers]))
        before_mb = read_pss_mb()
        cpu = time.process_time()
        with ServedIndex(folder, manifest) as index:
            open_s = time.process_time() - cpu
            cpu = cpu_seconds()
            effort = choose_effort(index, settings)
            chosen_s = cpu_seconds() - cpu
            taken = []
            for row in np.linspace(0, n - 1, QUERIES).astype(int):
                cpu = time.process_time()
                index.nearest(vectors[row], 20, model_version="m-1")
                taken.append(1000 * (time.process_time() - cpu))
            open_mb = read_pss_mb() - before_mb
            recall = measure_recall(index, QUERIES).value
        size_mb = sum(path.stat().st_size for path in paths) / 1e6
    return {
        "build": f"{build_s:.0f}",
        "each": f"{1000 * build_s / n:.3f}",
        "file": f"{size_mb:,.0f} MB",
        "build_mb": f"{build_mb:,.0f} MB",
        "open": f"{open_s:.0f} s",
        "open_mb": f"{open_mb:,.0f} MB",
        "effort": str(effort),
        "chosen": f"{chosen_s:.0f}",
        "recall": f"{recall:.4f}",
        "median": f"{np.median(taken):.2f}",
        "p99": f"{np.percentile(taken, 99):.2f}",
    }


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def read_pss_mb() -> float:
    """In memory; a page of a file counts once though it is mapped twice (the vectors are, by Annoy and by NumPy)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
