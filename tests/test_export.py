"""The exporter: what it writes, and what it refuses with file and line."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from export import Exporter, Refused, main, read_chapters

from conftest import ROOT, chapter_text


def export(root: Path) -> dict[str, str]:
    return Exporter(read_chapters(root / "chapters")).run()


def refusal(root: Path) -> str:
    with pytest.raises(Refused) as caught:
        export(root)
    return str(caught.value)


def line_of(root: Path, chapter: str, text: str) -> int:
    lines = (root / "chapters" / chapter).read_text("utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


def test_joins_cells_in_reading_order_and_resolves_imports(book):
    root = book(
        c01_a=chapter_text(
            ("", "import math\nimport os"),
            ("export.one", '"""First."""\n\n\ndef f(x: float) -> float:\n    return x'),
        ),
        c02_b=chapter_text(
            ("", "import math"),
            ("export.one", "def g(x: float) -> float:\n    return math.sin(f(x))"),
            ("export.two", "def h(x: float) -> float:\n    return g(x)"),
        ),
    )
    files = export(root)
    one, two = files["one.py"], files["two.py"]
    assert one.index("def f") < one.index("def g")
    assert "import math" in one and "import os" not in one
    assert '__all__ = ["f", "g"]' in one
    assert one.count("# chapters/01-a.md") == 1 and "# chapters/02-b.md" in one
    assert "from ddpm_lit.one import g" in two
    assert files["py.typed"] == ""


DOCUMENTED = """def f() -> int:
    \"\"\"One line.\"\"\"
    return 1


def _g() -> int:
    \"\"\"Ours alone.\"\"\"
    return 2


class C:
    \"\"\"Many lines.

    The second.
    \"\"\"

    def m(self) -> None:
        \"\"\"A method.\"\"\"
"""


def test_help_names_the_chapter(book):
    root = book(c03_a=chapter_text(("export.one", DOCUMENTED)))
    text = export(root)["one.py"]
    names: dict[str, object] = {}
    exec(text, names)
    place = "Explained in chapter 3, A chapter."
    f, g, c = names["f"], names["_g"], names["C"]
    assert inspect.getdoc(f) == f"One line.\n\n{place}"
    assert inspect.getdoc(g) == "Ours alone."
    assert inspect.getdoc(c) == f"Many lines.\n\nThe second.\n\n{place}"
    assert inspect.getdoc(c.m) == "A method."


def test_a_docstring_copied_back_from_the_package_gets_no_second_line(book):
    first = export(book(c03_a=chapter_text(("export.one", DOCUMENTED))))["one.py"]
    code = first[first.index("def f") :]
    again = export(book(c03_a=chapter_text(("export.one", code))))["one.py"]
    assert again == first


def test_the_back_matter_is_called_an_appendix(book):
    plain = chapter_text(("", "x = 1"))
    cell = chapter_text(("export.one", DOCUMENTED))
    root = book(c79_a=plain, c81_a=plain, c91_a=cell)
    assert "Explained in appendix B, A chapter." in export(root)["one.py"]


def test_letters_follow_the_order_of_the_files_and_not_their_numbers(book):
    plain = chapter_text(("", "x = 1"))
    root = book(c03_a=plain, c80_b=plain, c86_c=plain, c95_d=plain)
    numbers = [chapter.number for chapter in read_chapters(root / "chapters")]
    assert numbers == ["3", "A", "B", "C"]


def test_help_of_the_package_names_chapter_and_equation():
    from ddpm_lit import q_sample

    text = inspect.getdoc(q_sample) or ""
    assert "eq-jump" in text
    assert text.endswith("Explained in chapter 2, The diffusion kernel.")


def test_same_chapters_same_bytes(book):
    root = book(c01_a=chapter_text(("export.one", "def f() -> int:\n    return 1")))
    assert export(root) == export(root)


@pytest.mark.parametrize(
    ("code", "needle", "reason"),
    [
        ("def f():\n    return missing", "missing", "missing is not defined"),
        ("def f():\n    return 1\n\n\nprint(f())", "print", "top-level statement"),
        ("def f():\n    return 1\n\n\ndef f():\n    return 2", None, "already defined"),
        ("%time\ndef f():\n    return 1", "%time", "magic"),
        ("X = open('x')", "X = open", "calls open() at import"),
        ("for i in range(3):\n    pass", "for i", "top-level statement"),
        ("def f(:\n    pass", "def f(:", "syntax error"),
        ("import ddpm_lit.nowhere", "nowhere", "no chapter exports"),
    ],
)
def test_refuses_with_file_and_line(book, code, needle, reason):
    root = book(c01_a=chapter_text(("export.one", code)))
    message = refusal(root)
    assert reason in message
    if needle:
        assert f"chapters/01-a.md:{line_of(root, '01-a.md', needle)}: " in message
    assert message.startswith("chapters/01-a.md:")


def test_refuses_a_name_only_the_notebook_knows(book):
    root = book(
        c01_a=chapter_text(
            ("", "rate = 3"), ("export.one", "def f():\n    return rate")
        )
    )
    assert "only the notebook knows it" in refusal(root)


def test_refuses_an_import_from_a_later_chapter(book):
    root = book(
        c01_a=chapter_text(("", "from ddpm_lit.two import g")),
        c02_b=chapter_text(("export.two", "def g():\n    return 1")),
    )
    message = refusal(root)
    assert "later chapter (02-b.md)" in message
    line = line_of(root, "01-a.md", "from ddpm_lit.two")
    assert message.startswith(f"chapters/01-a.md:{line}: ")


def test_refuses_a_name_defined_in_a_later_chapter(book):
    root = book(
        c01_a=chapter_text(("export.one", "def f():\n    return g()")),
        c02_b=chapter_text(("export.two", "def g():\n    return 1")),
    )
    assert "g is not defined" in refusal(root)


def test_refuses_one_public_name_in_two_modules(book):
    root = book(
        c01_a=chapter_text(
            ("export.one", "def f():\n    return 1"),
            ("export.two", "def f():\n    return 2"),
        )
    )
    assert "public names are unique" in refusal(root)


ONE = ("export.one", "def f() -> int:\n    return 1")
KIT = ("export.book.kit", '"""The kit."""\n\n\ndef draw() -> int:\n    return 2')


def test_a_folder_holds_modules_and_gets_a_front(book, capsys):
    root = book(
        c01_a=chapter_text(("export.nets.small", "def f() -> int:\n    return 1")),
        c02_b=chapter_text(
            ("export.nets.large", "def g() -> int:\n    return f()"),
            ("export.two", "def h() -> int:\n    return g()"),
        ),
    )
    files = export(root)
    assert "from ddpm_lit.nets.small import f" in files["nets/large.py"]
    assert "from ddpm_lit.nets.large import g" in files["two.py"]
    assert '"""The modules of ddpm_lit.nets."""' in files["nets/__init__.py"]
    assert main(["--root", str(root)]) == 0
    assert main(["--root", str(root), "--check"]) == 0
    lines = files["nets/large.py"].splitlines()
    at = next(i for i, line in enumerate(lines, 1) if line == "    return f()")
    wanted = line_of(root, "02-b.md", "return f()")
    capsys.readouterr()
    for place in ("nets/large.py", "/somewhere/ddpm_lit/nets/large.py"):
        assert main(["--root", str(root), "--locate", f"{place}:{at}"]) == 0
        assert capsys.readouterr().out == f"chapters/02-b.md:{wanted}\n"


def test_a_chapter_may_write_the_front_of_a_folder(book):
    front = ("export.nets.__init__", '"""Networks."""')
    body = ("export.nets.small", "def f() -> int:\n    return 1")
    files = export(book(c01_a=chapter_text(front, body)))
    assert '"""Networks."""' in files["nets/__init__.py"]
    assert "# chapters/01-a.md" in files["nets/__init__.py"]


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("export.a.b.c", "too deep"),
        ("export.a-b", "no Python name"),
        ("export.one.two", "is a folder already"),
    ],
)
def test_refuses_a_place_where_no_module_can_be(book, tag, reason):
    root = book(c01_a=chapter_text(ONE, (tag, "def g() -> int:\n    return 1")))
    assert reason in refusal(root)


def test_every_chapter_may_import_the_kit(book):
    root = book(
        c01_a=chapter_text(
            ("", "from ddpm_lit.book.kit import draw\nfrom ddpm_lit.book import kit"),
            ONE,
        ),
        c86_b=chapter_text(KIT),
    )
    assert set(export(root)) >= {"one.py", "book/kit.py", "book/__init__.py"}


@pytest.mark.parametrize(
    "cells",
    [
        [("export.one", "from ddpm_lit.book.kit import draw\n\n\nX = draw")],
        [("export.one", "def f():\n    from ddpm_lit.book import kit\n\n    kit")],
        [("export.one", "def f():\n    import ddpm_lit.book.kit as k\n\n    k")],
        [
            ("", "from ddpm_lit.book.kit import draw"),
            ("export.one", "def f():\n    return draw()"),
        ],
        [("", "import ddpm_lit.book.kit as k"), ("export.one", "def f():\n    k")],
        [("", "from ddpm_lit.book import kit"), ("export.one", "def f():\n    kit")],
    ],
)
def test_the_package_never_imports_the_kit(book, cells):
    root = book(c01_a=chapter_text(*cells), c86_b=chapter_text(KIT))
    [line] = refusal(root).splitlines()
    assert line.startswith("chapters/01-a.md:") and "which the package never" in line


def test_a_name_of_the_kit_is_not_found_for_the_package(book):
    use = ("export.one", "def f():\n    return draw()")
    root = book(c01_a=chapter_text(KIT, use))
    assert "draw is not defined in ddpm_lit/one.py" in refusal(root)


FRONT = """\"\"\"A package.\"\"\"

__all__ = [
    # first
    "f",
    {more}
]

_HOME_OF: dict[str, str] = {{}}
"""


def front(*more: str) -> tuple[str, str]:
    return "export.__init__", FRONT.format(more=" ".join(f'"{m}",' for m in more))


def test_the_package_offers_the_names_of_its_list(book):
    two = ("export.nets.two", "def g() -> int:\n    return 1\n\n\ndef h():\n    g()")
    root = book(c00_a=chapter_text(front("g")), c01_b=chapter_text(ONE, two))
    text = export(root)["__init__.py"]
    assert '_HOME_OF: dict[str, str] = {"f": "one", "g": "nets.two"}' in text
    assert "    from ddpm_lit.nets.two import g as g" in text and '"h"' not in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("f", "f stands in __all__ twice"),
        ("nobody", "nobody stands in __all__, but no chapter exports it"),
        ("draw", "draw belongs to the lab kit"),
        ("one", "a module has that name too"),
    ],
)
def test_refuses_a_name_that_the_package_cannot_offer(book, name, reason):
    one = (ONE[0], f"{ONE[1]}\n\n\none = 1")
    root = book(
        c00_a=chapter_text(front(name)),
        c01_b=chapter_text(one),
        c86_c=chapter_text(KIT),
    )
    line = line_of(root, "00-a.md", f'    "{name}",')
    line = line + 1 if name == "f" else line
    assert refusal(root).startswith(f"chapters/00-a.md:{line}: ")
    assert reason in refusal(root)


def test_check_finds_stale_edited_and_superfluous_files(book, capsys):
    root = book(c01_a=chapter_text(("export.one", "def f() -> int:\n    return 1")))
    assert main(["--root", str(root), "--check"]) == 1
    assert "missing" in capsys.readouterr().err
    assert main(["--root", str(root)]) == 0
    assert main(["--root", str(root), "--check"]) == 0
    module = root / "ddpm_lit" / "one.py"
    module.write_text(module.read_text("utf-8").replace("return 1", "return 2"))
    assert main(["--root", str(root), "--check"]) == 1
    assert "make export" in capsys.readouterr().err
    (root / "ddpm_lit" / "extra.py").write_text("")
    assert main(["--root", str(root)]) == 0
    assert not (root / "ddpm_lit" / "extra.py").exists()


def test_a_folder_that_no_chapter_fills_any_more_is_removed(book, capsys):
    root = book(c01_a=chapter_text(ONE), c86_b=chapter_text(KIT))
    assert main(["--root", str(root)]) == 0
    folder = root / "ddpm_lit" / "book"
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "kit.cpython-311.pyc").write_bytes(b"")
    (root / "chapters" / "86-b.md").unlink()
    assert main(["--root", str(root), "--check"]) == 1
    assert "ddpm_lit/book/kit.py: no chapter exports it" in capsys.readouterr().err
    assert main(["--root", str(root)]) == 0
    assert not folder.exists()
    assert main(["--root", str(root), "--check"]) == 0


def test_locate_leads_back_to_the_page(capsys):
    module = (ROOT / "ddpm_lit" / "forward.py").read_text("utf-8").splitlines()
    number = next(
        i for i, line in enumerate(module, 1) if "signal * x + spread" in line
    )
    assert main(["--root", str(ROOT), "--locate", f"forward.py:{number}"]) == 0
    where = capsys.readouterr().out.strip()
    path, _, line = where.rpartition(":")
    assert (
        "signal * x + spread"
        in (ROOT / path).read_text("utf-8").splitlines()[int(line) - 1]
    )
    assert main(["--root", str(ROOT), "--locate", "nowhere.py:3"]) == 1
    assert main(["--root", str(ROOT), "--locate", "forward.py:99999"]) == 1


def test_the_committed_package_is_in_sync():
    assert main(["--root", str(ROOT), "--check"]) == 0
