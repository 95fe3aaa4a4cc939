"""`python -m benchmarks [NAME…]` prints one table each; `--write` puts the tables into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

NAMES = ("catalog", "crawl", "downloads", "features", "fuzz", "shards", "model", "memory", "index", "service")
BY_NAME = ("copies", "duplicates", "gpu", "index_peers", "million", "overhead", "worlds")
"""Asked for by name only: they install other libraries, need a GPU or servers, or take minutes and gigabytes."""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Repeat them with `make bench` (one: `python -m benchmarks index`). Shared machines are noisy: read the ratios, which
compare things measured in the same run, before the absolute figures.

Last run: {machine}.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES + BY_NAME)} (default: all but the last seven)"
    )
    parser.add_argument("--n", type=int, help="how many worlds `copies` or `worlds` makes")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    parts = [HEAD.format(machine=machine)]
    for name in arguments.names or NAMES:
        run = importlib.import_module(f"benchmarks.{name}").run
        text = run(arguments.n) if name in ("copies", "worlds") and arguments.n else run()
        print(text, flush=True)
        parts.append(text)
    if arguments.write:
        PAGE.write_text("\n".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
