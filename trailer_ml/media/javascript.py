"""The JavaScript runtime that yt-dlp needs for YouTube.

yt-dlp runs YouTube's own scripts in deno, which gives them no file and no network.

Does not belong here: what is run in it; that is yt-dlp's own.
"""

from __future__ import annotations

import shlex
import shutil
import sysconfig
from pathlib import Path

from trailer_ml.errors import SettingsError

_HEAP_MB = 512


def find_deno() -> str:
    """The deno that came from PyPI, or else one on PATH.

    Raises:
        SettingsError: there is none.
    """
    own = Path(sysconfig.get_path("scripts"), "deno")
    if found := shutil.which(own) or shutil.which("deno"):
        return str(found)
    raise SettingsError("there is no JavaScript runtime: YouTube's videos cannot be had")


def write_deno(path: Path) -> Path:
    """Write a program that starts deno free of the limit on address space that its caller holds itself to.

    V8 reserves 64 GiB of addresses, whatever it uses: its heap is limited instead.

    Args:
        path: where; nobody else should be able to write there.

    Raises:
        SettingsError: there is no deno.
    """
    heap = f"--max-old-space-size={_HEAP_MB}"
    path.write_text(f'#!/bin/sh\nulimit -S -v unlimited\nDENO_V8_FLAGS={heap} exec {shlex.quote(find_deno())} "$@"\n')
    path.chmod(0o700)
    return path
