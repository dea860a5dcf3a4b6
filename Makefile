# Each target does all the set-up it needs; see README.md. Networks need torch: `make setup WITH=network` takes
# it, `make demo WITHOUT=network` leaves it out, and TORCH_INDEX=… says where it is to come from. make hands on
# what stands on its command line.
.PHONY: setup demo test test-processors lint format docs bench bench-sequences bench-detection clean

PYTEST_WORKERS ?= auto
ARGS ?=
NATIVE = $(shell find native tests -name '*.[ch]' -o -name '*.[ch]pp')

setup:
	@sh scripts/setup.sh run
	@echo "setup: done; the program is .venv/bin/barnum"

demo:
	@sh scripts/setup.sh demo
	@.venv/bin/python demo/run.py $(if $(WITHOUT),--without-$(WITHOUT)) $(ARGS)

test:
	@sh scripts/setup.sh test
	@.venv/bin/python -m pytest -n $(PYTEST_WORKERS) $(ARGS)

# as processors of several kinds and with several numbers of threads; ARGS chooses tests
test-processors:
	@sh scripts/test-processors.sh $(ARGS)

lint:
	@sh scripts/setup.sh lint
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/clang-format --dry-run --Werror $(NATIVE)
	@shellcheck scripts/*.sh .ci/run
	@.venv/bin/oxlint --deny-warnings
	@.venv/bin/rumdl check --quiet .

# what lint finds that can be mended by itself
format:
	@sh scripts/setup.sh lint
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .
	@.venv/bin/clang-format -i $(NATIVE)

# a broken link, or a docstring that cannot be read, is an error
docs:
	@sh scripts/setup.sh docs
	@.venv/bin/python -m sphinx -W --keep-going -q -c docs . build/docs-site
	@echo "docs: build/docs-site/index.html"

bench:
	@sh scripts/setup.sh bench
	@.venv/bin/python bench/run.py $(ARGS)

bench-sequences:
	@sh scripts/setup.sh run
	@.venv/bin/python bench/sequences.py $(ARGS)

# how many attacks are found, how early and at what cost in false alarms; records for an hour the first time
bench-detection:
	@sh scripts/setup.sh detection
	@.venv/bin/python bench/detection/run.py $(ARGS)

clean:
	rm -rf build demo-out bench-out .mypy_cache .pytest_cache .ruff_cache
