"""The Markdown of a chapter as any notebook shows it: numbers and names in place of
roles, links that lead somewhere, boxes and folds without directives.

Numbers and names are the ones that mystmd resolved and left in ``_build/site``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
EQUATION = re.compile(r"^(\$\$|.*\$\$) \(([\w-]+)\)$", re.M)
LINK = re.compile(r"\[([^\]]*)\]\((\d\d-[\w-]+|index)\.md(#[^)]*)?\)")
OPENED = re.compile(r"^([`:]{3,})\{([a-z-]+)\} ?(.*)$")
OPTION = re.compile(r"^:[\w-]+:")


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A tree of mystmd, from its root to its leaves."""
    yield tree
    for child in tree.get("children", []):
        yield from nodes(child)


def text(node: dict[str, Any]) -> str:
    """The words of a node."""
    return str(node.get("value") or "".join(map(text, node.get("children", []))))


class Book:
    """What the pages of a book call each other's equations, figures and sources."""

    def __init__(self, pages: list[dict[str, Any]], url: str = "") -> None:
        """`pages` as mystmd wrote them; `url` is where the site will lie, if known."""
        self.url = url
        self.places: dict[str, str] = {}  # label -> name-of-page/#id
        self.names: dict[tuple[str, str], str] = {}  # (role, label) -> words
        self.slugs = {Path(p["location"]).stem: p["slug"] for p in pages}
        self.titles: dict[str, str] = {}
        self.notebooks: set[str] = set()
        for page in pages:
            self.read(page)

    def read(self, page: dict[str, Any]) -> None:
        for node in nodes(page["mdast"]):
            kind, label = node["type"], node.get("identifier") or node.get("label")
            number = node.get("enumerator")
            if kind == "block" and node.get("kind") == "notebook-code":
                self.notebooks.add(Path(page["location"]).stem)
            elif kind == "cite":
                role = "cite:p" if node["kind"] == "parenthetical" else "cite:t"
                self.names[role, node["label"]] = text(node)
            elif kind in ("math", "container") and label and number:
                name = str(node.get("kind", "")).capitalize()
                words = f"({number})" if kind == "math" else f"{name} {number}"
                role = "eq" if kind == "math" else "numref"
                self.names[role, label] = words
                self.places[label] = f"{page['slug']}/#{node['html_id']}"

    def role(self, role: str, label: str) -> str:
        """What a reader sees in place of a role."""
        if role.startswith("cite"):
            found = [self.names[role, each.strip()] for each in label.split(",")]
            return f"({'; '.join(found)})" if role == "cite:p" else ", ".join(found)
        words = self.names.get((role, label), label)
        place = self.places.get(label)
        return f"[{words}]({self.url}/{place})" if self.url and place else words

    def link(self, words: str, stem: str, place: str) -> str:
        """A link to another file of chapters/: to its page, or else to its notebook."""
        if self.url:
            path = "" if stem == "index" else f"{self.slugs[stem]}/"
            return f"[{words}]({self.url}/{path}{place})"
        return f"[{words}]({stem}.ipynb)" if stem in self.notebooks else words

    def numbered(self, closing: str, label: str) -> str:
        """The end of a display, with the number that the pages give it."""
        number = self.names["eq", label][1:-1]
        return f"{closing.removesuffix('$$')}\\tag{{{number}}}\n$$"

    def plain(self, markdown: str) -> str:
        """Markdown of a chapter without anything that only MyST knows."""
        lines = list(unfolded(markdown.splitlines()))
        found = EQUATION.sub(lambda m: self.numbered(m[1], m[2]), "\n".join(lines))
        found = LINK.sub(lambda m: self.link(m[1], m[2], m[3] or ""), found)
        return ROLE.sub(lambda m: self.role(m[1], m[2]), found)


def unfolded(lines: list[str]) -> Iterator[str]:
    """Boxes between rules, and what is folded as HTML folds it."""
    at = 0
    while at < len(lines):
        opened = OPENED.match(lines[at])
        if opened is None:
            yield lines[at]
            at += 1
            continue
        fence, kind, title = opened.groups()
        end = lines.index(fence, at + 1)
        body = lines[at + 1 : end]
        while body and (OPTION.match(body[0]) or not body[0].strip()):
            body = body[1:]
        if kind == "dropdown":
            yield from ("<details>", f"<summary>{title}</summary>", "")
            yield from (*unfolded(body), "", "</details>")
        else:
            yield from ("---", "", f"**{title}**", "")
            yield from (*unfolded(body), "", "---")
        at = end + 1


def sources(page: dict[str, Any]) -> str:
    """The works that a page cites, as a section; nothing if there are none."""
    cited = page.get("references", {}).get("cite", {})
    entries = [f"- {cited['data'][label]['html']}" for label in cited.get("order", [])]
    return "\n".join(["## References", "", *entries]) if entries else ""
