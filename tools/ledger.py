"""chapters/equations.yml, displays.yml and notes.yml: what stands in them, and on which
line, for the gates and the build. The theme shows the same files in the back matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chapters import Chapter

CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
EQUATION = re.compile(r"^\$\$ \((eq-[a-z0-9-]+)\)\s*$", re.M)
EQUATIONS = "equations.yml"
DISPLAYS = "displays.yml"
NOTES = "notes.yml"
# How the print of an equation is run, see tools/printed.py.
RUN_KEYS = {"run", "unrun", "from", "T", "variance", "tolerance", "real"}
ORIGIN_KEYS = {"cite", "place", "note", "waived"} | RUN_KEYS
DISPLAY_KEYS = {"chapter", "has", "as", "left"} | RUN_KEYS
WAIVED_SHARE = 0.03  # of all equations, at most
NOT_YET = "not-yet: "


@dataclass
class Entry:
    """One entry of a YAML file, and its line."""

    value: Any
    line: int


def line_of(text: str, position: int) -> int:
    """Line number, from 1, of a position in a text."""
    return text.count("\n", 0, position) + 1


def folder_of(chapters: list[Chapter]) -> Path:
    return chapters[0].path.parent


def construct(node: yaml.Node) -> Any:
    """The plain value of a node of YAML."""
    return yaml.safe_load(yaml.serialize(node))


def composed(path: Path) -> yaml.MappingNode | None:
    """The nodes of a YAML file that is a mapping; None when there is no such file.

    Raises ValueError, with file and line, for a file that is no mapping.
    """
    if not path.is_file():
        return None
    name = f"chapters/{path.name}"
    try:
        root = yaml.compose(path.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise ValueError(f"{name}:{line}: not YAML: {error.problem}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{name}:1: must map names to entries")
    seen: set[str] = set()
    for key, _ in root.value:
        if key.value in seen:
            line = key.start_mark.line + 1
            raise ValueError(f"{name}:{line}: {key.value} is there twice")
        seen.add(key.value)
    return root


def entries_of(path: Path) -> dict[str, Entry]:
    """Name -> entry of a YAML file that is a mapping; nothing when there is none."""
    root = composed(path)
    return {
        key.value: Entry(construct(value), key.start_mark.line + 1)
        for key, value in (root.value if root else [])
    }


def origins(folder: Path) -> dict[str, Entry]:
    """Label -> what equations.yml says of where the equation comes from."""
    return entries_of(folder / EQUATIONS)


def displays(folder: Path) -> dict[str, Entry]:
    """Name -> what displays.yml says of a display without a number."""
    return entries_of(folder / DISPLAYS)


def run_names(value: dict[str, Any]) -> list[str]:
    """What an equation is run against: names of the package, or `sides`."""
    stated = value.get("run") or []
    return [stated] if isinstance(stated, str) else list(stated)


def waived(folder: Path) -> set[str]:
    """The equations that need no check, with a reason in equations.yml."""
    found = origins(folder).items()
    return {
        label
        for label, entry in found
        if isinstance(entry.value, dict) and "waived" in entry.value
    }


def cite_keys(folder: Path) -> set[str]:
    path = folder / "references.bib"
    text = path.read_text("utf-8") if path.is_file() else ""
    return set(re.findall(r"^@\w+\{([^,\s]+),", text, re.M))


# An entry of the bibliography, as its canonical form has it: a line for each field.
BIB_ENTRY = re.compile(
    r"@\w+\{([^,\s]+),\n(?:  \w+ *= *\{.*\},\n)*  \w+ *= *\{.*\}\n\}\n+"
)


def bibliography_problems(chapters: list[Chapter]) -> list[str]:
    """The bibliography is well formed, each key is there once, as is each cited."""
    path = folder_of(chapters) / "references.bib"
    text = path.read_text("utf-8") if path.is_file() else ""
    problems: list[str] = []
    keys: set[str] = set()
    at = 0
    while at < len(text):
        where = f"chapters/{path.name}:{line_of(text, at)}"
        entry = BIB_ENTRY.match(text, at)
        if not entry:
            return [f"{where}: no entry of the form @kind{{key, fields}}, a line each"]
        if entry[1] in keys:
            problems.append(f"{where}: {entry[1]} is there twice")
        keys.add(entry[1])
        named = re.search(r"author\s*= \{(.*) and others\}", entry[0])
        if named and named[1].count(" and ") < 2:  # else cited as "One & others"
            problems.append(f"{where}: {entry[1]} names too few authors before others")
        at = entry.end()
    for chapter in chapters:
        for match in CITATION.finditer(chapter.text):
            problems += [
                f"{chapter.where(line_of(chapter.text, match.start()))}: "
                f"references.bib has no entry {key!r}"
                for key in re.split(r"[;,]\s*", match[1])
                if key not in keys
            ]
    return problems


def cites(entry: dict[str, Any]) -> list[str]:
    stated = entry.get("cite", [])
    return [stated] if isinstance(stated, str) else list(stated)


def origin_problems(chapters: list[Chapter]) -> list[str]:
    """Every numbered equation has an entry in equations.yml, and each entry one."""
    folder = folder_of(chapters)
    entries, keys = origins(folder), cite_keys(folder)
    problems, labels = [], {}
    cited = {
        key
        for chapter in chapters
        for match in CITATION.finditer(chapter.text)
        for key in re.split(r"[;,]\s*", match[1])
    }
    for chapter in chapters:
        for match in EQUATION.finditer(chapter.text):
            label = match[1]
            labels[label] = chapter.where(line_of(chapter.text, match.start()))
    for label, where in labels.items():
        if label not in entries:
            problems.append(
                f"{where}: {label} has no entry in chapters/{EQUATIONS}; say there "
                f"where it comes from, for example `{label}: {{note: definition}}`"
            )
    for label, entry in entries.items():
        where = f"chapters/{EQUATIONS}:{entry.line}"
        if label not in labels:
            problems.append(
                f"{where}: no equation is labelled {label}; delete the entry or "
                "correct its name"
            )
        problems += [f"{where}: {what}" for what in origin_faults(entry.value, keys)]
        stated = cites(entry.value) if isinstance(entry.value, dict) else []
        problems += [
            f"{where}: no chapter cites {key!r}; cite it where the equation stands"
            for key in stated
            if key in keys - cited
        ]
    excused = waived(folder)
    if len(excused) > WAIVED_SHARE * len(labels):
        first = min(entries[label].line for label in excused)
        problems.append(
            f"chapters/{EQUATIONS}:{first}: {len(excused)} of {len(labels)} equations "
            f"are waived, at most {WAIVED_SHARE:.0%} may be; write checks for some"
        )
    return problems


def origin_faults(value: Any, keys: set[str]) -> list[str]:
    """What is wrong with one entry of equations.yml."""
    if not isinstance(value, dict) or not value:
        return [f"{value!r} is no entry; write {{cite: KEY, place: eq. 2}} or a note"]
    faults = [
        f"{key!r} is none of {', '.join(sorted(ORIGIN_KEYS))}"
        for key in value
        if key not in ORIGIN_KEYS
    ]
    faults += [
        f"references.bib has no entry {key!r}"
        for key in cites(value)
        if key not in keys
    ]
    if "place" in value and not cites(value):
        faults.append("a place needs the source it is in: add cite")
    if "waived" in value and not str(value["waived"] or "").strip():
        faults.append("waived needs a reason")
    return faults + run_faults(value)


def run_faults(value: dict[str, Any]) -> list[str]:
    """What is wrong with how an entry says that a print is run."""
    faults = []
    if "unrun" in value and not str(value["unrun"] or "").strip():
        faults.append("unrun needs a reason")
    if "unrun" in value and value.keys() & (RUN_KEYS - {"unrun"}):
        faults.append("what is not run needs no other word on how it is run")
    if "run" in value and not run_names(value):
        faults.append("run needs a function of the package, or `sides`")
    return faults


def display_faults(value: Any) -> list[str]:
    """What is wrong with one entry of displays.yml."""
    if not isinstance(value, dict) or not {"chapter", "has"} <= value.keys():
        return [f'{value!r} is no entry; write {{chapter: "05", has: TeX}}']
    unknown = sorted(value.keys() - DISPLAY_KEYS)
    faults = [
        f"{key!r} is none of {', '.join(sorted(DISPLAY_KEYS))}" for key in unknown
    ]
    return faults + run_faults(value)
