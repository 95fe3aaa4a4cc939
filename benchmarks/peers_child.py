"""One library on one set of vectors, in a process of its own: `python peers_child.py NAME VECTORS.npy`, JSON out.

It runs in an environment that holds the libraries and not this package, so it imports nothing of ours.
"""

import json
import resource
import sys
import time

import numpy as np

K, QUERIES = 10, 1000


def annoy(vectors, n_trees=100, effort=5):
    from annoy import AnnoyIndex

    index = AnnoyIndex(vectors.shape[1], "angular")
    index.set_seed(42)
    for row, vector in enumerate(vectors):
        index.add_item(row, vector)
    index.build(n_trees, n_jobs=1)
    return lambda query: index.get_nns_by_vector(query, K, K * n_trees * effort)


def hnswlib(vectors):
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16, random_seed=42)
    index.set_num_threads(1)
    index.add_items(vectors)
    index.set_ef(100)
    return lambda query: index.knn_query(query, K)[0][0].tolist()


def voyager(vectors):
    from voyager import Index, Space

    index = Index(Space.InnerProduct, vectors.shape[1], M=16, ef_construction=200, random_seed=42)
    index.add_items(vectors, num_threads=1)
    return lambda query: index.query(query, K, query_ef=100)[0].tolist()


def faiss_hnsw(vectors):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 200, 100
    index.add(vectors)
    return lambda query: index.search(query[None], K)[1][0].tolist()


def faiss_flat(vectors):
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return lambda query: index.search(query[None], K)[1][0].tolist()


def usearch(vectors):
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200, expansion_search=100
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return lambda query: index.search(query, K).keys.tolist()


def main() -> None:
    name, path = sys.argv[1:3]
    vectors = np.load(path)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    ask = globals()[name](vectors)
    build_s, build_cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = np.linspace(0, len(vectors) - 1, QUERIES).round().astype(int)
    taken, answers = [], []
    for row in rows:
        at = time.process_time()
        answers.append(ask(vectors[row]))
        taken.append(time.process_time() - at)
    found = 0
    for start in range(0, QUERIES, 100):
        truth = np.argpartition(-(vectors[rows[start : start + 100]] @ vectors.T), K, axis=1)[:, :K]
        found += sum(len(set(t) & set(a)) for t, a in zip(truth.tolist(), answers[start : start + 100], strict=True))
    result = {
        "build_s": build_s,
        "build_cpu_s": build_cpu_s,
        "memory_mb": (peak_kb - before_kb) / 1024,
        "recall": found / (K * QUERIES),
        "median_ms": 1000 * float(np.median(taken)),
        "p99_ms": 1000 * float(np.percentile(taken, 99)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
