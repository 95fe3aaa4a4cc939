"""Annoy set side by side with other libraries, on the same vectors, each in a process of its own and with one thread.

They are installed into an environment of this benchmark, kept in .cache/peers; requirements name none of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

from benchmarks.index import DIM, N, clustered_vectors
from benchmarks.measure import table

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".cache" / "peers"
PACKAGES = ("numpy", "annoy", "voyager", "hnswlib", "faiss-cpu", "usearch")
NAMES = ("annoy", "hnswlib", "voyager", "faiss_hnsw", "usearch", "faiss_flat")


def run() -> str:
    python = FOLDER / "bin" / "python"
    if not python.exists():
        venv.create(FOLDER, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.npy")
        np.save(path, clustered_vectors())
        rows = [[name, *measure(str(python), name, path)] for name in NAMES]
    heads = ("", "recall@10", "build, CPU s", "memory beside the vectors", "query, CPU ms", "99 of 100 below")
    return table(f"Index: Annoy beside others, {N:,} vectors of {DIM} numbers, one thread", heads, rows)


def measure(python: str, name: str, path: Path) -> list[str]:
    child = [python, str(HERE / "peers_child.py"), name, str(path)]
    found = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    print(name, found, file=sys.stderr)
    return [
        f"{found['recall']:.4f}",
        f"{found['build_cpu_s']:.1f}",
        f"{found['memory_mb']:.0f} MB",
        f"{found['median_ms']:.2f}",
        f"{found['p99_ms']:.2f}",
    ]
