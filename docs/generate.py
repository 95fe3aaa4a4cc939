"""The pages that the code writes about itself: settings, commands, downloads, DAGs, and the README's tree.

`python docs/generate.py` writes them; with `--check` it changes nothing and fails where one is stale.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- written by docs/generate.py: change the code, then `make docs` -->\n"
TREE_START, TREE_END = "<!-- tree -->\n", "<!-- /tree -->\n"

DOWNLOADS = """\
A trailer that did not come lies in `quarantine/download/` with its reason; `trailer-ml status` counts them. What
**waits** is tried again when the time is past that its source named (a Retry-After, a premiere), else after
`TRAILER_MEDIA_RETRY_LATER_S`, in a batch of its own. In one run there are `TRAILER_MEDIA_ATTEMPTS` attempts, and no
wait is longer than `TRAILER_MEDIA_MAX_WAIT_S`.

Nobody is **given up** in a batch that lost more than `TRAILER_MEDIA_MAX_LOSS_SHARE`: all of it waits
([why](decisions/0004-retry-batches.md)). What waits is given up, too, after failing in `TRAILER_MEDIA_GIVE_UP_AFTER`
runs. `trailer-ml retry REASON`, or *Try again* in the form of `trailers_refresh`, has all that was lost for a reason
tried again now, whether it waits or was given up. The last column:

- *source*: after three in a row its host is not asked for the rest of the batch.
- *doubted*: a whole source may look like this for an hour, so it waits, and is given up only after
  `TRAILER_MEDIA_GIVE_UP_AFTER` runs.
- *patient*: it never counts as a failure, however often.

What a killed run left in TMPDIR, half a video perhaps, is removed by whatever stage opens a folder there next, and by
`trailer-ml doctor`; what a living process holds is not touched.
"""


def settings_page() -> str:
    """Every setting, its default and what it means."""
    from trailer_ml.settings import PhaseSettings, Settings

    lines = [
        NOTE,
        "# Settings\n",
        "Set with environment variables; a `TRAILER_*` variable that is not here is an error.\n",
    ]
    meanings = _field_meanings(ROOT / "trailer_ml/settings.py")
    for stage, field in Settings.model_fields.items():
        kind = field.annotation
        if kind is None:
            raise TypeError(f"{stage} has no annotation")
        lines += [
            f"\n## {stage}\n",
            f"{(kind.__doc__ or '').strip()}\n",
            "| variable | default | meaning |",
            "|---|---|---|",
        ]
        for name, inner in kind.model_fields.items():
            default = inner.default
            if isinstance(default, tuple):
                default = [item.name if isinstance(item, PhaseSettings) else item for item in default]
            meaning = meanings.get((kind.__name__, name), "").replace("|", "\\|")
            lines.append(f"| `TRAILER_{stage}_{name}`".upper() + f" | `{default}` | {meaning} |")
    lines.append(
        "\nA row of `TRAILER_MODEL_PHASES` is a table with: "
        + ", ".join(
            f"`{name}`" + (f" ({meanings[key]})" if (key := ("PhaseSettings", name)) in meanings else "")
            for name in PhaseSettings.model_fields
        )
        + "."
    )
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command, what it does and what it takes; argparse's own help differs between Python versions."""
    from trailer_ml.cli import make_parser

    lines = [NOTE, "# Commands\n", "Exit status 0: done. 1: failed, with one clear line. 2: wrong usage."]
    for parser in _parsers(make_parser()):
        lines += [f"\n## {parser.prog}\n", f"{parser.description or ''}\n"]
        for action in parser._actions:
            if action.dest in {"help", "json", "debug"} or isinstance(action, argparse._SubParsersAction):
                continue
            name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
            choices = f" ({' or '.join(action.choices)})" if action.choices else ""
            lines.append(f"- `{name}`{choices}{f': {action.help}' if action.help else ''}")
    lines.append("\nEvery command but `demo` also takes `--json` (one object a line, for machines) and `--debug`.")
    return "\n".join(lines) + "\n"


def downloads_page() -> str:
    """Every reason for which a trailer is not in, and what is done about it."""
    from trailer_ml.media.failures import DOUBTFUL, MEANINGS, PATIENT, SOURCE_WIDE, actions_of

    done = {
        "retry": "tried again after a moment, then waits",
        "retry_once": "tried once more, then given up",
        "slow_down": "tried again when its source says, or waits until then",
        "wait": "waits",
        "give_up": "given up",
        "abort": "the batch ends, its task is tried again",
    }
    lines = [
        NOTE,
        "# When a download fails\n",
        DOWNLOADS,
        "| reason | what it is | what is done | |",
        "|---|---|---|---|",
    ]
    for reason, meaning in sorted(MEANINGS.items()):
        actions = actions_of(reason)
        ways = "; or ".join(text for action, text in done.items() if action in actions)
        marks = {"source": SOURCE_WIDE, "doubted": DOUBTFUL, "patient": PATIENT}
        notes = ", ".join(mark for mark, reasons in marks.items() if reason in reasons)
        lines.append(f"| `{reason}` | {meaning} | {ways} | {notes} |")
    return "\n".join(lines) + "\n"


def dags_page() -> str:
    """The docstring of every DAG file, as Airflow shows it."""
    lines = [NOTE, "# DAGs\n"]
    for path in sorted((ROOT / "dags").glob("*.py")):
        lines += [f"\n## {path.stem}\n", _docstring(path)]
    return "\n".join(lines) + "\n"


def tree() -> str:
    """Every file of the code with the first line of its docstring."""
    lines = []
    for top in ("dags", "plugins", "trailer_ml"):
        for path in [ROOT / top, *sorted((ROOT / top).rglob("*"))]:
            depth = len(path.relative_to(ROOT).parts) - 1
            if path.is_dir() and (path / "__init__.py").exists():
                about = _docstring(path / "__init__.py").splitlines()[0]
            elif path.suffix == ".py" and path.name != "__init__.py":
                about = (_docstring(path) or " ").splitlines()[0].lstrip("# ")
            elif path == ROOT / top:
                about = "What Airflow reads." if top == "dags" else "What Airflow loads."
            else:
                continue
            name = "  " * depth + path.name + ("/" if path.is_dir() else "")
            lines.append(f"{name:<28} {about.split(': see')[0]}")
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"


def readme() -> str:
    """The README with a fresh tree."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(TREE_START)
    _, after = rest.split(TREE_END)
    return before + TREE_START + tree() + TREE_END + after


def main() -> int:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    pages = {
        "docs/settings.md": settings_page,
        "docs/commands.md": commands_page,
        "docs/downloads.md": downloads_page,
        "docs/dags.md": dags_page,
        "README.md": readme,
    }
    stale = []
    for name, make in pages.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(("stale, fix with `make docs`: " if is_check else "wrote ") + ", ".join(stale))
    return 1 if stale and is_check else 0


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _field_meanings(path: Path) -> dict[tuple[str, str], str]:
    """The string under each field of each class."""
    meanings = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                meanings[node.name, ast.unparse(field.target)] = " ".join(str(after.value.value).split())
    return meanings


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)


if __name__ == "__main__":
    sys.exit(main())
