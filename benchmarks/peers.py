"""Ten exact pictures of a film by a library of others', one thread: prints the CPU seconds, importing it apart.

    .cache/peers/bin/python benchmarks/peers.py opencv film.mp4 5,17,29

It runs in an environment of its own (see the Makefile), so nothing of Trailer ML is imported here. Each is used as its
manual says: the first frame at or after each instant, scaled to 560 wide, 224 x 224 cut out.
"""

import os
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
WIDTH, X, Y, SIZE = 560, 168, 45, 224
TOLERANCE_S = 1e-4


def use_opencv(path, instants_s):
    import cv2

    cv2.setNumThreads(1)

    def run():
        video = cv2.VideoCapture(path)
        rate = video.get(cv2.CAP_PROP_FPS)
        height = round(WIDTH * video.get(cv2.CAP_PROP_FRAME_HEIGHT) / video.get(cv2.CAP_PROP_FRAME_WIDTH))
        pictures = []
        for instant_s in instants_s:
            video.set(cv2.CAP_PROP_POS_FRAMES, first_at(instant_s, rate))
            picture = cv2.resize(video.read()[1], (WIDTH, height), interpolation=cv2.INTER_CUBIC)
            pictures.append(cv2.cvtColor(picture[Y : Y + SIZE, X : X + SIZE], cv2.COLOR_BGR2RGB))
        return pictures

    return run


def use_decord2(path, instants_s):
    import decord

    def run():
        size = decord.VideoReader(path, num_threads=1)[0].shape
        video = decord.VideoReader(path, num_threads=1, width=WIDTH, height=round(WIDTH * size[0] / size[1]))
        numbers = [first_at(instant_s, video.get_avg_fps()) for instant_s in instants_s]
        return list(video.get_batch(numbers).asnumpy()[:, Y : Y + SIZE, X : X + SIZE])

    return run


def use_pyav(path, instants_s):
    import av

    def run():
        pictures = []
        with av.open(path) as container:
            stream = container.streams.video[0]
            for instant_s in instants_s:
                container.seek(int(instant_s / stream.time_base), stream=stream)
                frame = next(f for f in container.decode(stream) if f.time >= instant_s - TOLERANCE_S)
                height = round(WIDTH * frame.height / frame.width)
                picture = frame.to_ndarray(width=WIDTH, height=height, format="rgb24", interpolation="BICUBIC")
                pictures.append(picture[Y : Y + SIZE, X : X + SIZE])
        return pictures

    return run


def use_torchcodec(path, instants_s):
    lend_ffmpeg()
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    torch.set_num_threads(1)
    # Its other way to seek reads every packet first.
    options = {"seek_mode": "approximate", "num_ffmpeg_threads": 1, "dimension_order": "NHWC"}

    def run():
        video = VideoDecoder(path, transforms=[Resize((WIDTH * 9 // 16, WIDTH))], **options)
        frames = video.get_frames_played_at([instant_s + TOLERANCE_S for instant_s in instants_s]).data
        return list(frames[:, Y : Y + SIZE, X : X + SIZE].numpy())

    return run


def lend_ffmpeg():
    """Starts this program anew where torchcodec finds FFmpeg's libraries: PyAV's, which have other names there."""
    theirs, ours = Path(find_spec("av").origin).parents[1] / "av.libs", Path(sys.prefix) / "ffmpeg"
    found_in = f"{ours}:{theirs}"
    if os.environ.get("LD_LIBRARY_PATH") == found_in:
        return
    ours.mkdir(exist_ok=True)
    for library in theirs.glob("lib[as][vw]*.so.*"):
        name, version = re.fullmatch(r"(lib[a-z]+)-.*\.so\.(\d+).*", library.name).groups()
        link = ours / f"{name}.so.{version}"
        link.unlink(missing_ok=True)
        link.symlink_to(library)
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_LIBRARY_PATH": found_in})


def first_at(instant_s, rate):
    return -int(-(instant_s - TOLERANCE_S) * rate // 1)


PEERS = {"opencv": use_opencv, "decord2": use_decord2, "pyav": use_pyav, "torchcodec": use_torchcodec}


if __name__ == "__main__":
    name, film, instants = sys.argv[1:]
    call = PEERS[name](film, [float(text) for text in instants.split(",")])
    before = time.process_time()
    found = call()
    seconds = time.process_time() - before
    assert all(picture.shape == (SIZE, SIZE, 3) for picture in found)
    print(seconds, [round(float(picture.mean()), 2) for picture in found])
