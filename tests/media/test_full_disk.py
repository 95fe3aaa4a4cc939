"""A disk that is full ends the batch and says so; nothing half is stored, and the next run goes on.

/dev/full stands for it, under the name of the file that is about to be written: a write to it fails as on a full disk.
"""

import tempfile

import pytest

from trailer_ml.errors import LocalFaultError
from trailer_ml.media.download import download_batch, download_videos

HLS = "application/vnd.apple.mpegurl"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where downloads go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def fill_disk(folder, name, then):
    """When it is asked for, no file of this name can be written in the folder of the video any more."""

    def answer(handler):
        (video,) = folder.glob("trailer-ml-download-*/.video-*")
        if not (video / name).is_symlink():
            (video / name).symlink_to("/dev/full")
        then(handler)

    return answer


@pytest.mark.parametrize("moment", ["video", "behind a page", "piece", "state of the pieces", "pieces together"])
def test_a_full_disk_while_a_video_comes(fault_site, media_settings, store, make_batch, videos, folder, moment):
    site, good = fault_site, fault_site.send(videos["silent"].read_bytes())
    page = site.send(f'<html><body><video src="{site.url}/behind.mp4"></video></body></html>'.encode(),
                     content_type="text/html")  # fmt: skip
    for path in videos["playlist"].parent.glob("list*"):
        kind = HLS if path.suffix == ".m3u8" else "video/mp2t"
        site.put(f"/{path.name}", site.send(path.read_bytes(), content_type=kind))
    full = {
        "video": ("/film.mp4", "video.mp4.part"),
        "behind a page": ("/behind.mp4", "video.mp4.part"),
        "piece": ("/list.m3u8", "video.mp4.part-Frag1.part"),
        "state of the pieces": ("/list.m3u8", "video.mp4.ytdl"),
        "pieces together": ("/list.m3u8", "container.mp4"),
    }
    site.put("/film.mp4", good)
    site.put("/behind.mp4", good)
    path, name = full[moment]
    well = site.answers[path]
    site.put(path, fill_disk(folder, name, well[0]))
    urls = {"a": site.put("/a.mp4", good), "b": site.put("/page", page) if "page" in moment else site.url + path}
    batch = make_batch(urls | {"c": site.put("/c.mp4", good)})
    with pytest.raises(LocalFaultError, match=r"(?i)no space left"):
        download_batch(batch, media_settings, store)
    assert sorted(store.list_keys("media/")) == ["media/a.json", "media/a.mp4"]
    assert list(store.list_keys("quarantine/")) == []  # it says nothing about the trailer
    assert list(folder.iterdir()) == []
    site.answers[path] = well
    summary = download_batch(batch, media_settings, store)
    assert (summary.n_reused, summary.n_downloaded) == (1, 2)


def test_no_room_for_a_folder(fault_site, media_settings, store, make_batch, videos, monkeypatch):
    batch = make_batch({"t": fault_site.put("/film.mp4", fault_site.send(videos["silent"].read_bytes()))})
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/proc")  # nobody makes a folder there
        with pytest.raises(LocalFaultError, match="/proc"):
            download_batch(batch, media_settings, store)
    assert fault_site.seen.total() == 0
    assert download_batch(batch, media_settings, store).n_downloaded == 1


def test_the_folder_of_a_video_that_is_taken_away(fault_site, media_settings, store, make_batch, videos, folder):
    good = fault_site.send(videos["silent"].read_bytes())

    def take_away(handler):
        (video,) = folder.glob("trailer-ml-download-*/.video-*")
        video.rmdir()
        video.touch()
        good(handler)

    batch = make_batch({"t": fault_site.put("/film.mp4", take_away, good)})
    with pytest.raises(LocalFaultError, match="downloads cannot go on"):
        download_batch(batch, media_settings, store)
    assert list(folder.iterdir()) == []
    assert download_batch(batch, media_settings, store).n_downloaded == 1


def test_commercials_have_no_room_either(fault_site, media_settings, folder):
    with pytest.raises(LocalFaultError, match="none"):
        download_videos([("t", f"{fault_site.url}/film.mp4")], folder / "none", media_settings)
