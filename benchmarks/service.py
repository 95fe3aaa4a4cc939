"""The service under load: likeness beside a trivial answer, and an index that changes again and again meanwhile.

Requests are sent at a fixed rate, whether or not earlier ones were answered, and a latency counts from the moment at
which its request was due: a server that stands still is not spared the requests that it kept waiting. Server, load and
object store share the machine.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.index import DIM, N, clustered_vectors
from benchmarks.measure import table
from trailer_ml.demo.services import free_port, run_seaweedfs
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index, rollback_index
from trailer_ml.index.stored import read_current_manifest
from trailer_ml.processes import start_child
from trailer_ml.records import BatchRef, EmbeddedTrailer
from trailer_ml.settings import IndexSettings, ServiceSettings, Settings, as_environment
from trailer_ml.storage import CHAMPION_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RATE_PER_S, SLICE_S, ROUNDS = 200, 5, 4
SWAP_S, N_PUBLISHES, ROLLBACK_AFTER = 60, 20, 4
BATCH = 500
CONNECTIONS = 16


class Answer(NamedTuple):
    """One request: when it was answered after it was due, with what."""

    seconds: float
    status: int
    body: bytes


def run() -> str:
    vectors = clustered_vectors()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = stack.enter_context(run_seaweedfs(folder / "store"))
        rows = _measure_latency(vectors, _settings(base, folder / "large", "large/"))
        rows += _measure_swaps(vectors, _settings(base, folder / "swapped", "swapped/"))
    return table(f"Service: {RATE_PER_S} requests/s, {N:,} vectors of {DIM} numbers", ("", "measured"), rows)


def _settings(store, cache: Path, prefix: str) -> Settings:
    return Settings(
        store=store.model_copy(update={"prefix": prefix}),
        index=IndexSettings(cache_folder=cache),
        service=ServiceSettings(port=free_port(), requests_per_s=100_000),
    )


def _measure_latency(vectors: np.ndarray, settings: Settings) -> list[list[str]]:
    store = Store(settings.store)
    _put(vectors, range(N), store)
    _promote("m-1", store)
    publish_index(build_index(settings, store).version, settings, store)
    paths = [f"/api/v1/trailers/{_name(row)}/similar?k=10" for row in np.random.default_rng(1).permutation(N)]
    taken: dict[str, list[Answer]] = {"/health/live": [], "/similar": []}
    cpu_s = dict.fromkeys(taken, 0.0)
    with _serving(settings) as (port, pid):
        _load(port, paths[:200], 1)  # pages of the index come into memory
        for number in range(ROUNDS):
            some = paths[number * RATE_PER_S * SLICE_S :]
            for name, asked in (("/health/live", ["/health/live"]), ("/similar", some)):
                before = _cpu_seconds(pid)
                taken[name] += _load(port, asked, SLICE_S)
                cpu_s[name] += _cpu_seconds(pid) - before
    rows = []
    for name, answers in taken.items():
        p50, p99 = np.percentile([1000 * answer.seconds for answer in answers], [50, 99])
        n_failed = sum(answer.status != 200 for answer in answers)
        cpu_ms = 1000 * cpu_s[name] / len(answers)
        said = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {n_failed} of {len(answers):,} failed, {cpu_ms:.2f} ms of CPU each"
        rows.append([f"`{name}`", said])
    rows.append(["load average meanwhile", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"])
    return rows


def _measure_swaps(vectors: np.ndarray, settings: Settings) -> list[list[str]]:
    """Two indexes of two models, whose vectors of one trailer have nothing in common, published in turn."""
    store = Store(settings.store)
    of_models = {"m-1": vectors, "m-2": vectors[::-1]}
    versions = {}
    for model, own in of_models.items():
        _put(own, range(N), store, model)
        _promote(model, store)
        versions[model] = build_index(settings, store).version
        publish_index(versions[model], settings, store, by_hand=True)
    asked = np.random.default_rng(2).integers(0, N, RATE_PER_S * SWAP_S)
    with _serving(settings) as (port, _):
        changes = multiprocessing.get_context("spawn").Process(target=_change, args=(versions, settings))
        changes.start()
        answers = _load(port, [f"/api/v1/trailers/{_name(row)}/similar?k=5" for row in asked.tolist()], SWAP_S)
        is_over = not changes.is_alive()
        changes.join()
    good = [(row, json.loads(a.body)) for row, a in zip(asked.tolist(), answers, strict=True) if a.status == 200]
    n_mixed = sum(_is_mixed(row, body, of_models[body["model_version"]], versions) for row, body in good)
    n_turns = sum(one["index_version"] != other["index_version"] for (_, one), (_, other) in pairwise(good))
    p50, p99 = np.percentile([1000 * answer.seconds for answer in answers], [50, 99])
    said = (
        f"{len(answers) - len(good)} failed and {n_mixed} mixed of {len(answers):,}; the index changed {n_turns} times"
        f" under them; p50 {p50:.1f} ms, p99 {p99:.1f} ms{'' if is_over else '; not all in this time'}"
    )
    return [[f"{N_PUBLISHES} publishes and {N_PUBLISHES // ROLLBACK_AFTER} rollbacks in {SWAP_S} s", said]]


def _change(versions: dict[str, str], settings: Settings) -> None:
    """Publish the index of the model that is not served, again and again, and go back at times; evenly in time."""
    store = Store(settings.store)
    n_changes = N_PUBLISHES + N_PUBLISHES // ROLLBACK_AFTER
    began = time.monotonic()
    for number in range(n_changes):
        time.sleep(max(0.0, began + (number + 0.5) * SWAP_S / n_changes - time.monotonic()))
        if number % (ROLLBACK_AFTER + 1) == ROLLBACK_AFTER:
            rollback_index(settings, store)
            continue
        served = read_current_manifest(store).model_version
        model = next(model for model in versions if model != served)
        _promote(model, store)
        publish_index(versions[model], settings, store, by_hand=True)


def _is_mixed(row: int, body: dict, vectors: np.ndarray, versions: dict[str, str]) -> bool:
    """Whether an answer is not that of the index and of the model that it names."""
    if versions[body["model_version"]] != body["index_version"]:
        return True
    rows = [int(each["trailer_id"][1:]) for each in body["neighbours"]]
    scores = [each["score"] for each in body["neighbours"]]
    return len(rows) != 5 or not np.allclose(vectors[rows] @ vectors[row], scores, atol=1e-4)


def _name(row: int) -> str:
    return f"t{row:07d}"


def _put(vectors: np.ndarray, rows: range, store: Store, model: str = "m-1") -> None:
    day = dt.date(2026, 1, 1) + dt.timedelta(days=rows.start)
    for number, start in enumerate(range(rows.start, rows.stop, BATCH)):
        some = range(start, min(start + BATCH, rows.stop))
        trailers = [
            EmbeddedTrailer(
                trailer_id=_name(row), film_id=_name(row), title=f"Film {row}", genres=("Drama",), year=2000
            )
            for row in some
        ]
        write_vectors(
            store, BatchRef(listed_on=day, number=number), vectors[some.start : some.stop], trailers,
            model_version=model, video_dim=DIM // 2, shard_sha256="0" * 64,
        )  # fmt: skip


def _promote(model: str, store: Store) -> None:
    store.swap_pointer(CHAMPION_KEY, {"version": model}, store.read_pointer(CHAMPION_KEY))


@contextmanager
def _serving(settings: Settings) -> Iterator[tuple[int, int]]:
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    keys = {"AWS_ACCESS_KEY_ID": key.get_secret_value(), "AWS_SECRET_ACCESS_KEY": secret.get_secret_value()}
    command = [sys.executable, "-m", "trailer_ml.cli", "serve"]
    with start_child(command, stdout=subprocess.PIPE, env=os.environ | as_environment(settings) | keys) as child:
        child.process.stdout.readline()  # it listens from here on
        yield settings.service.port, child.process.pid


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(port: int, paths: Sequence[str], seconds: float) -> list[Answer]:
    return asyncio.run(_send_all(port, paths, int(RATE_PER_S * seconds)))


async def _send_all(port: int, paths: Sequence[str], n: int) -> list[Answer]:
    """`n` requests at RATE_PER_S, over connections that stay open."""
    free: asyncio.Queue = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    began = time.perf_counter() + 0.05

    async def send(number: int) -> Answer:
        due = began + number / RATE_PER_S
        await asyncio.sleep(due - time.perf_counter())
        reader, writer = await free.get()
        writer.write(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
        except (OSError, asyncio.IncompleteReadError):
            return Answer(time.perf_counter() - due, 0, b"")
        free.put_nowait((reader, writer))
        return Answer(time.perf_counter() - due, int(head.split()[1]), body)

    return await asyncio.gather(*(send(number) for number in range(n)))
