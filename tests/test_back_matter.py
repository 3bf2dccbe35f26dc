"""The back matter is complete: every equation, name and topic, and no dead link."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from ledger import EQUATION, origins

from chapters import read_chapters
from conftest import ROOT, from_root, package_files, public_names

PAGES = ("ledger", "errata", "coverage", "names")
RESULT = re.compile(
    r"(run as printed, |not run as printed: \w).*"
    r"((exact|symbolic|quadrature|Monte Carlo|definition): +[\d.e-]+ *, allowed"
    r"|asserted)",
    re.S,
)


text_of = cache(from_root)


def page(site: Path, name: str) -> str:
    return text_of(site / name / "index.html", site)


def words(markup: str) -> str:
    """What a reader sees of a piece of HTML."""
    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


def rows(site: Path, name: str) -> list[str]:
    """The rows of a page's table that are no headings."""
    found = re.findall(r"<tr\b(.*?)</tr>", page(site, name), re.S)
    return [row for row in found if "<td" in row]


def labels() -> list[str]:
    chapters = read_chapters(ROOT / "chapters")
    return [label for chapter in chapters for label in EQUATION.findall(chapter.text)]


def notes() -> dict[str, list[dict[str, object]]]:
    return yaml.safe_load((ROOT / "chapters" / "notes.yml").read_text("utf-8"))


def test_the_ledger_has_one_row_for_every_labelled_equation(site):
    listed = re.findall(r'<tr id="row-(eq-[a-z0-9-]+)"', page(site, "ledger"))
    assert listed == labels()


def test_every_row_has_a_statement_a_source_and_a_result(site):
    for row in rows(site, "ledger"):
        number, label = re.search(r"\((\w+\.\d+)\).*?>(eq-[\w-]+)<", row, re.S).groups()
        assert f'aria-label="The check of equation ({number})"' in row, label
        assert 'class="katex' in row, f"{label}: no statement"
        cells = [words(cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)]
        assert cells[1], f"{label}: no source"
        assert RESULT.match(cells[2]), f"{label}: {cells[2]}"


def test_the_ledger_counts_what_it_lists(site):
    count = len(labels())
    stated = words(
        re.search(r'class="totals">(.*?)</p>', page(site, "ledger"), re.S)[1]
    )
    assert re.search(rf"\b{count} equations", stated), stated
    assert f"{count} checked" in stated and "0 waived" in stated, stated
    entries = origins(ROOT / "chapters").values()
    ran = sum("run" in entry.value for entry in entries)
    assert f"{ran} run as printed" in stated and ran > 0.85 * count, stated


def test_an_error_in_the_ledger_is_the_one_that_the_check_printed(site):
    row = next(r for r in rows(site, "ledger") if "row-eq-jump" in r)
    kernel = words(page(site, "diffusion-kernel"))
    printed = re.findall(r"eq-jump, \w+: exact, largest error (\S+),", kernel)
    shown = re.search(r'class="measured">([^<]+)<', row)
    assert printed and shown
    assert float(shown[1]) == max(map(float, printed))


def test_the_ledger_and_the_tick_say_what_is_run_as_printed(site):
    row = next(r for r in rows(site, "ledger") if "row-eq-jump" in r)
    assert "run as printed, against q_sample" in " ".join(words(row).split())
    row = next(r for r in rows(site, "ledger") if "row-eq-beta-cubed" in r)
    assert "not run as printed: an approximation" in words(row)
    kernel = page(site, "diffusion-kernel")
    tick = re.search(r'<a class="checked"[^>]*>', kernel)
    assert tick and 'title="run as printed"' in tick[0]
    assert "run as printed · exact" in " ".join(words(kernel).split())


def test_functions_that_compute_an_equation_are_named(site):
    row = next(r for r in rows(site, "ledger") if "row-eq-jump" in r)
    assert 'href="/modules/forward/#api-q_sample"' in row


def test_the_index_lists_every_public_name_once(site):
    listed = re.findall(
        r'<dt><a class="file" href="/modules/[\w/]+/#api-(\w+)"', page(site, "names")
    )
    assert sorted(listed) == sorted(public_names())
    assert listed == sorted(listed, key=str.lower)


def test_a_name_leads_to_its_cell_and_to_its_uses(site):
    entry = re.search(r"#api-q_sample.*?</dd>", page(site, "names"), re.S)
    assert entry
    assert 'href="/diffusion-kernel/#def-q_sample"' in entry[0]
    users = re.findall(r'href="/([\w-]+)/#(?:cell|check|export|fig)-', entry[0])
    assert {"noise-prediction", "training"} <= set(users), entry[0]
    assert 'href="/modules/denoiser/"' in entry[0]


@pytest.mark.parametrize("module", package_files())
def test_a_modules_page_is_its_reference(site, module):
    """Each public name with its docstring, and the way to the cell."""
    reference = page(site, f"modules/{module.replace('.', '/')}")
    text = package_files()[module].read_text("utf-8")
    public = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", text, re.M)
    for name in public if not module.endswith("__") else ():
        section = re.search(rf'<h2 id="api-{name}">.*?</section>', reference, re.S)
        assert section, f"{name} is not in the reference"
        assert f"#def-{name}" in section[0], f"{name}: no way to its cell"
        thing = getattr(import_module(f"ddpm_lit.{module}"), name)
        doc = re.findall(r"[\w'-]+", thing.__doc__ or "")
        seen = re.findall(r"[\w'-]+", words(section[0]))
        assert doc[0] in seen, f"{name}: no docstring"
        assert not re.search(r"\beq-[a-z]", words(section[0])), f"{name}: a bare label"


def test_exported_cells_say_where_they_are_used(site):
    kernel = page(site, "diffusion-kernel")
    line = re.search(r'<p class="used-in">(.*?)</p>', kernel, re.S)
    assert line and "denoiser.py" in words(line[1])


def test_every_place_of_the_notes_has_a_row(site):
    errata = notes()["errata"]
    found = rows(site, "errata")
    assert len(found) == len(errata) > 50
    for row, erratum in zip(found, errata, strict=True):
        assert re.search(r'href="/[\w-]+/#slip-[\w-]+"', row) or "not yet: " in row, row
        assert f'class="erratum-kind">{erratum["kind"]}<' in row, row


def test_a_note_is_corrected_in_the_order_of_its_lines():
    places = [re.match(r"S(\d):(\d+)", row["where"]) for row in notes()["errata"]]
    assert all(places)
    order = [tuple(map(int, place.groups())) for place in places]
    assert order == sorted(order)


def test_an_erratum_shows_the_number_that_its_check_computed(site):
    row = next(r for r in rows(site, "errata") if "#slip-two-noises" in r)
    assert "0.38" in words(row)


def test_every_topic_of_the_notes_leads_somewhere_or_says_not_yet(site):
    topics = re.findall(r'<li id="topic-\d+".*?</li>', page(site, "coverage"), re.S)
    assert len(topics) == len(notes()["coverage"]) > 100
    for topic in topics:
        assert "<a href=" in topic or "not yet: " in topic, words(topic)


def test_no_link_of_the_back_matter_is_dead(site):
    for name in PAGES:
        for path, place in re.findall(
            r'href="(/[^"#]*)(?:#([^"]+))?"', page(site, name)
        ):
            target = site / path.strip("/")
            if target.is_dir():
                there = text_of(target / "index.html", site)
                assert not place or f' id="{place}"' in there, f"{name}: {path}#{place}"
            else:
                assert target.is_file(), f"{name}: {path}"


def test_search_finds_the_rows(site):
    entries = json.loads((site / "search.json").read_text("utf-8"))
    kinds = [entry["kind"] for entry in entries]
    assert kinds.count("ledger") == len(labels())
    assert kinds.count("erratum") == len(notes()["errata"])
    assert kinds.count("topic") == len(notes()["coverage"])


def test_a_wrong_answer_is_folded_like_a_solution(site):
    kernel = page(site, "diffusion-kernel")
    folded = re.findall(r'<details class="solution wrong"><summary>([^<]+)<', kernel)
    assert folded == ["A wrong answer"] * 2
