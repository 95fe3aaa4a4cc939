"""Annoy against exact search, on as many vectors as there are trailers in a large catalogue."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from annoy import AnnoyIndex

from benchmarks.measure import interleaved, table, wall_seconds
from trailer_ml.index.effort import FIRST_EFFORT
from trailer_ml.settings import IndexSettings
from trailer_ml.vectors import exact_top_k, normalise

N, DIM, QUERIES = 25_000, 256, 500


def clustered_vectors() -> np.ndarray:
    """(N, DIM) float32 unit vectors around 200 centres, as trained embeddings lie."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIM))
    return normalise((centres[rng.integers(0, 200, N)] + rng.normal(size=(N, DIM))).astype(np.float32))


def run() -> str:
    vectors, settings = clustered_vectors(), IndexSettings()
    queries = vectors[:: N // QUERIES][:QUERIES]
    index = AnnoyIndex(DIM, "angular")
    index.set_seed(settings.seed)
    for row, vector in enumerate(vectors):
        index.add_item(row, vector)
    build_s = wall_seconds(lambda: index.build(settings.n_trees, n_jobs=1))
    with tempfile.TemporaryDirectory() as folder:
        index.save(str(Path(folder, "index.ann")))
        size_mb = Path(folder, "index.ann").stat().st_size / 1e6
    exact = exact_top_k(queries, vectors, 10)[1]
    effort = 10 * settings.n_trees * FIRST_EFFORT
    found = [index.get_nns_by_vector(query, 10, effort) for query in queries]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact.tolist(), strict=True)])
    seconds = interleaved(
        {
            "annoy": lambda: [index.get_nns_by_vector(query, 10, effort) for query in queries],
            "exact": lambda: [exact_top_k(query[None], vectors, 10) for query in queries],
        },
        rounds=3,
        measure=wall_seconds,
    )
    annoy_ms, exact_ms = (1000 * seconds[name] / len(queries) for name in ("annoy", "exact"))
    rows = [
        ["build", f"{build_s:.1f} s, {size_mb:.0f} MB"],
        ["recall@10 against exact search", f"{recall:.4f}"],
        ["query, Annoy", f"{annoy_ms:.2f} ms"],
        ["query, exact search", f"{exact_ms:.2f} ms ({exact_ms / annoy_ms:.1f}× Annoy's)"],
    ]
    return table(f"Index: {N:,} vectors of {DIM} numbers, {settings.n_trees} trees", ("", "measured"), rows)
