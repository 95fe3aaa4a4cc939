"""The downloading task is ended by a signal, wherever it stands; the next run finishes, and sweeps.

What a kill left there the next run on the same machine sweeps; that any other stage does, too, is in test_scratch.py.
"""

import signal
import tempfile
import time
from pathlib import Path

import pytest

from trailer_ml.media.download import download_batch

STOP = """
import time
from trailer_ml.media.fetch import _Downloader
from trailer_ml.storage import Store

def stop_before(cls, name, is_it):
    call = getattr(cls, name)
    def stop(self, *arguments):
        if is_it(*arguments):
            print("here", flush=True)
            time.sleep(60)
        return call(self, *arguments)
    setattr(cls, name, stop)

"""
STOPS = {
    "before the child answers": STOP + 'stop_before(_Downloader, "_receive", lambda *_: True)',
    "in the middle": "",
    "before the receipt": STOP + 'stop_before(Store, "create_json", lambda key, _: key == "media/t2.json")',
    "after the receipt": STOP + 'stop_before(Store, "delete", lambda key: key == "quarantine/download/t2.json")',
}
MOMENTS = {  # and what is in the store then
    "before the child answers": [],
    "in the middle": ["t1.json", "t1.mp4"],
    "before the receipt": ["t1.json", "t1.mp4", "t2.mp4"],
    "after the receipt": ["t1.json", "t1.mp4", "t2.json", "t2.mp4"],
}
CASES = [
    *((signal.SIGKILL, moment) for moment in MOMENTS),
    *(
        (number, moment)
        for number in (signal.SIGTERM, signal.SIGINT)
        for moment in ("in the middle", "before the receipt")
    ),
]


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(("number", "moment"), CASES)
def test_the_next_run_finishes(
    fault_site, media_settings, store, make_batch, start_download, videos, tmp_path, *, number, moment
):
    data = videos["silent"].read_bytes()
    good, stalls = fault_site.send(data), fault_site.send_part(data, 5000, then=fault_site.stall)
    second = [good, stalls, good] if moment == "in the middle" else [good]
    urls = {
        "t1": fault_site.put("/1.mp4", good),
        "t2": fault_site.put("/2.mp4", *second),
        "t3": fault_site.put("/3.mp4", good),
    }
    batch = make_batch(urls)
    with start_download(batch, STOPS[moment]) as process:
        if moment == "in the middle":
            _wait(lambda: fault_site.seen["/2.mp4"] >= 2 and list(tmp_path.rglob("*.part")))
        else:
            assert process.stdout.readline() == b"here\n"
        process.send_signal(number)
        assert process.wait(30) != 0
    _wait(lambda: not _processes_in(tmp_path))
    assert [key.removeprefix("media/") for key in sorted(store.list_keys("media/"))] == MOMENTS[moment]
    # A KeyboardInterrupt tidies up; of the others the next run does.
    assert bool(list(tmp_path.glob("trailer-ml-download-*"))) == (number != signal.SIGINT)

    n_asked = fault_site.seen.copy()
    n_receipts = sum(name.endswith(".json") for name in MOMENTS[moment])
    summary = download_batch(batch, media_settings, store)
    assert (summary.n_reused, summary.n_downloaded) == (n_receipts, 3 - n_receipts)
    assert {store.read_bytes(f"media/{trailer_id}.mp4") for trailer_id in urls} == {data}
    for trailer_id in urls:
        path = f"/{trailer_id[1:]}.mp4"
        assert fault_site.seen[path] - n_asked[path] == (0 if f"{trailer_id}.json" in MOMENTS[moment] else 2)
    assert list(tmp_path.iterdir()) == []


def _wait(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _processes_in(folder):
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(folder) in str(path.readlink()):
                found.append(path)
        except OSError:
            continue
    return found
