# book   execute every chapter and render the book to _build/html
# test   everything: gates, unit tests, every chapter, the wheel, the commands, mutants
# mutants  plant known bugs one at a time; each must be found by the check it names;
#          and slips of the pen in the printed equations
# pdf    the whole book as one PDF in _build
# lab    JupyterLab, with the chapters opening as notebooks on double click
# preview serve the book while it is written: a saved page shows at once
# models   train the small models of the package again: minutes on a GPU
# systems  train the small systems of chapter 22 again: an hour or two on one core
# check  the fast gates alone        export  write ddpm_lit/ from the chapters
# format bring chapters and tools into their canonical form
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python

# A hundred processes are started here, and each would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: book pdf test mutants lab preview models systems check export format bench clean

book: $(VENV)/.build
	@$(RUN) tools/book.py

pdf: $(VENV)/.test
	@$(RUN) tools/book.py
	@$(RUN) tools/pdf.py

PYTEST := OMP_NUM_THREADS=1 \
  $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q --durations=15

# Every chapter runs once, as a test, beside the tests that need no book. The book is
# then rendered from what the chapters put out, and looked at.
test: $(VENV)/.test
	@$(RUN) tools/gates.py
	@$(RUN) tools/browser.py > /dev/null
	@$(RUN) tools/book.py --theme
	@$(PYTEST) -m "not book"
	@$(RUN) tools/book.py --kept
	@$(PYTEST) -m book
	@$(RUN) tools/mutants.py

mutants: $(VENV)/.test
	@$(RUN) tools/mutants.py

# Threads that wait for each other give up their cores soon: other programs need them.
lab: $(VENV)/.build
	@JUPYTER_CONFIG_PATH="$(CURDIR)/tools/jupyter" \
	  GOMP_SPINCOUNT=$${GOMP_SPINCOUNT:-3000} $(VENV)/bin/jupyter lab \
	  $(if $(filter 0,$(shell id -u)),--allow-root) chapters/index.md

preview: $(VENV)/.build
	@$(RUN) tools/book.py --preview

models: $(VENV)/.build
	@for name in fashion mnist; do \
	  $(VENV)/bin/ddpm-lit train --preset book-$$name --overwrite && \
	  $(RUN) -c "from ddpm_lit.book.models import record_model; \
	    print(record_model('runs/book-$$name', '$$name'))" || exit 1; done

systems: $(VENV)/.build
	@$(RUN) -c "from ddpm_lit.book.captions import record_parts; \
	  print(record_parts('chapters/22-systems.safetensors'))"

check: $(VENV)/.test
	@$(RUN) tools/gates.py

export: $(VENV)/.build
	@$(RUN) tools/export.py

format: $(VENV)/.build
	@$(RUN) tools/format_chapters.py
	@$(VENV)/bin/ruff format -q tools tests benchmarks conftest.py

bench: $(VENV)/.test
	@$(RUN) benchmarks/startup.py --out benchmarks/results/startup.json
	@$(RUN) tools/book.py
	@$(RUN) benchmarks/pages.py --out benchmarks/results/pages.json

clean:
	rm -rf _build $(VENV) theme/node_modules theme/dist

# One environment; the stamps say which extras it holds.
$(VENV)/.build $(VENV)/.test: $(VENV)/.%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "installing the $* environment into $(VENV) ..."
	@$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
