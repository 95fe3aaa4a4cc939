"""The whole job as a person sees it: `trailer-ml demo --once`, twice, through real Airflow and real SeaweedFS."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.services import read_or_make_credentials, run_seaweedfs
from trailer_ml.demo.world import World, read_world
from trailer_ml.model.card import read_card
from trailer_ml.records import AdMatch
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.search.status import Standing, count_states, read_standings
from trailer_ml.storage import Store

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")  # as /proc has them
LISTENING = "0A"


class Ran(NamedTuple):
    """What a run of the demo said and did."""

    code: int
    text: str
    listened_at: set[str]
    """Local addresses of its listening sockets, as /proc/net has them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "folder"


@pytest.fixture(scope="module")
def first(folder: Path) -> Ran:
    return _run_demo(folder)


@pytest.fixture(scope="module")
def second(first: Ran, folder: Path) -> tuple[Ran, dict[str, str], dict[str, str]]:
    """A second run, and the store's listing before and after it."""
    with _opened(folder) as store:
        before = _listing(store)
    ran = _run_demo(folder)
    with _opened(folder) as store:
        return ran, before, _listing(store)


@pytest.fixture(scope="module")
def store(second: object, folder: Path) -> Iterator[Store]:
    with _opened(folder) as store:
        yield store


def test_it_ends_well_and_shows_what_came_out(first: Ran) -> None:
    assert first.code == 0, first.text
    for part in (
        "Similar trailers", "Commercials", "Retrieval on held-out films", "untrained", "chance", "Set aside", "Status:",
        "Time in tasks", "Disk:", "Report", "password",
    ):  # fmt: skip
        assert part in first.text
    assert len(re.findall(r"^  ad-[a-z-]+ +0\.\d\d ", first.text, re.MULTILINE)) == 6


def test_nothing_listens_beyond_loopback(first: Ran) -> None:
    assert len(first.listened_at) >= 4  # SeaweedFS, the site, two API servers
    assert [address for address in first.listened_at if not address.startswith(LOOPBACK)] == []


def test_the_second_run_does_no_work_twice(second: tuple[Ran, dict[str, str], dict[str, str]]) -> None:
    ran, before, after = second
    assert ran.code == 0, ran.text
    assert after == before
    assert ran.text.count("done earlier") == 2


def test_the_model_is_good_enough(store: Store) -> None:
    found = read_card(str(count_states(store).champion), store).evaluation
    assert found.map_at_k >= 0.80
    assert found.map_at_k >= found.untrained_map_at_k + 0.15
    assert found.n_queries >= 10


def test_commercials_have_a_film_of_their_genre_first(store: Store, folder: Path) -> None:
    world = read_world(folder / "world")
    (key,) = [key for key in store.list_keys("ads/") if key.endswith("/matches.jsonl")]
    matches = {match.ad: match for match in map(AdMatch.model_validate_json, store.read_bytes(key).splitlines())}
    right = [ad.name for ad in world.ads if ad.genre in matches[Path(ad.file).stem].films[0].best.genres]
    assert len(world.ads) == len(matches) == 6
    assert len(right) >= 5, right


def test_a_trailer_its_teaser_and_its_recut_and_no_others_are_nearly_the_same(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    world = read_world(folder / "world")
    alike = {f"imdb-{clip.video_id}" for clip in world.clips_of(world.odd("recut").film_id)}
    settings = demo_settings(store.settings, "http://127.0.0.1:1")
    index = settings.index.model_copy(update={"cache_folder": tmp_path})
    groups = find_duplicates(settings.model_copy(update={"index": index}), store)
    assert len(alike) == 3
    assert [{trailer.trailer_id for trailer in group.trailers} for group in groups] == [alike]
    assert all(each.is_confirmed for group in groups for each in group.evidence)


def test_every_odd_trailer_is_where_it_belongs(store: Store, folder: Path) -> None:
    world, standings = read_world(folder / "world"), read_standings(store)
    for clip in world.clips:
        expected = {"corrupt": ("rejected", "corrupt"), "gone": ("rejected", "gone")}.get(str(clip.oddity))
        found = standings.get(f"imdb-{clip.video_id}")
        if clip.oddity == "series":
            assert found is None
        else:
            assert isinstance(found, Standing)
            assert found[:2] == (expected or ("indexed", "")), clip


def test_nothing_is_missing_from_the_sum(store: Store, folder: Path) -> None:
    world: World = read_world(folder / "world")
    status = count_states(store)
    assert status.n_listed == sum(status.states.values()) == sum(clip.oddity != "series" for clip in world.clips)
    assert status.titles_set_aside == {"no_trailer": len(world.titles_without_trailer), "not_a_movie": 1}


def test_the_report_stands_alone(first: Ran, folder: Path) -> None:
    page = (folder / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 6 * 6
    assert set(re.findall(r"(?:src|href)=.(.{0,5})", page)) == {"data:"}


def test_no_secret_is_in_a_log(second: object, folder: Path) -> None:
    kept = json.loads((folder / "airflow" / "secrets.json").read_text()).values()
    secrets = [read_or_make_credentials(folder / "store")[1], *kept]
    assert len(secrets) == 4
    for path in (folder / "airflow" / "logs").rglob("*.log"):
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path


def _run_demo(folder: Path) -> Ran:
    log = folder.with_suffix(".log")
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TRAILER_", "AWS_"))
    }
    with log.open("w") as stream:
        demo = subprocess.Popen(
            [sys.executable, "-m", "trailer_ml.cli", "demo", "--folder", str(folder), "--once"],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environ,
        )  # fmt: skip
        addresses: set[str] = set()
        try:
            while demo.poll() is None:
                addresses |= set(_listening_addresses(demo.pid))
                time.sleep(2)
        finally:
            demo.terminate()
            demo.wait(60)
    left = [pid for pid in _pids() if str(folder) in _read(pid, "environ") + _read(pid, "cmdline")]
    assert left == [], f"still there: {[_read(pid, 'cmdline') for pid in left]}"
    return Ran(demo.returncode, log.read_text(), addresses)


def _listening_addresses(root: int) -> Iterator[str]:
    """Local addresses of the listening sockets of a process and all below it."""
    inodes = set()
    for pid in _descendants(root):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                yield fields[1]


def _descendants(root: int) -> set[int]:
    parents = {}
    for pid in _pids():
        if stat := _read(pid, "stat"):
            parents[pid] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[Store]:
    with run_seaweedfs(folder / "store") as settings:
        yield Store(settings)


def _listing(store: Store) -> dict[str, str]:
    pages = store._client.get_paginator("list_objects_v2").paginate(Bucket=store.settings.bucket)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}
