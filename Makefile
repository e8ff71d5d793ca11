# make demo         sample data, training, detection, in one go
# make page         the page in a browser
# make test         lint, types, the whole suite but for the browser
# make test-quick   the tests that train nothing
# make test-lowest  the quick tests with the oldest libraries that pyproject.toml admits
# make test-page    the page in a real browser
# make bench        how fast it is, beside its peers: 40 minutes, with nothing else on the machine
# make torture      ten thousand mutated inputs for each reader, and kills at random moments: an hour
# make lock         the lock files anew after a change of dependencies; LOCK=--upgrade takes the newest releases
# make audit        known vulnerabilities of the libraries in the lock file, from the network
# make docs         the documentation as a site
# make figures      the shipped model's figures in README.md and its card, from its metrics.json
# make install      the environment alone
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest
# Byte code is made for what is imported, when it is; for all packages it would take a minute.
PIP := python -m pip --disable-pip-version-check --quiet

.PHONY: install demo page test test-quick test-lowest test-page bench torture lock audit docs figures clean

install: .venv/installed

# Everything that is installed is in a lock file, with the hashes of its files. setuptools comes first: what has to be built, the project
# and a library without a wheel, is then built by that one, instead of by one that pip would fetch.
LOCKED := install --no-compile --require-hashes

# $(1) is the environment, $(2) the lock file. supervision's and imaug's OpenCV comes in two distributions that share their files; the one
# put in last stays, and the headless one needs no graphics libraries of the system.
define installed
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	@echo "installing into $(1) (this takes minutes, once)"
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/$(PIP) $(LOCKED) -r locks/build.lock
	@$(1)/bin/$(PIP) $(LOCKED) --no-build-isolation -r $(2)
	@$(1)/bin/$(PIP) $(LOCKED) --force-reinstall --no-deps -r locks/opencv.lock
	@$(1)/bin/$(PIP) install --no-compile --no-build-isolation --no-deps -e .
	@touch $@
endef

.venv/installed: pyproject.toml locks/core.lock
	$(call installed,.venv,locks/core.lock)

.venv/installed-page: pyproject.toml locks/page.lock
	$(call installed,.venv,locks/page.lock)
	@touch .venv/installed

.venv/installed-test: pyproject.toml locks/test.lock
	$(call installed,.venv,locks/test.lock)
	@touch .venv/installed .venv/installed-page

$(LOWEST)/installed: pyproject.toml locks/lowest.lock
	$(call installed,$(LOWEST),locks/lowest.lock)

demo: install
	@bash download.sh sample
	@$(BIN)/python train.py --config=configs/from_scratch.yaml --set train_images=data/sample --set name=demo --set epochs=6 --set proposer_epochs=10 --set proposer_steps=100
	@$(BIN)/python run.py --model models/demo --image 'data/sample/images/slide5*.jpg' --annotations data/sample/test.json --output results/demo
	@echo "images with boxes: results/demo/annotated   report: results/demo/report.html"

page: .venv/installed-page
	@$(BIN)/malaria-cells page

docs: .venv/installed-test
	@$(BIN)/malaria-cells keys > docs/config.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

figures: install
	@$(BIN)/python docs/figures.py

test: .venv/installed-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not browser"

# Without the tests that train.
test-quick: .venv/installed-test
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser"

# The lock file holds the newest libraries, this one the oldest. After a change of dependencies: make test-lowest MARKED="not browser"
MARKED := not slow and not browser
test-lowest: $(LOWEST)/installed
	@$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile -m "$(MARKED)"

# The page in the system's Chromium, which is installed where it is not there yet.
test-page: .venv/installed-test
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	    command -v apt-get >/dev/null || { echo "error: the page's tests need Chromium; install it" >&2; exit 1; }; \
	    sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }
	@$(BIN)/python -m pytest -m browser tests/test_page_browser.py

# Ultralytics gets an environment of its own, .venv-bench, since it brings PyTorch and is under the AGPL.
bench: .venv/installed-test
	@$(BIN)/python -m benchmarks.bench
	@$(BIN)/python -m benchmarks.bench --page

torture: .venv/installed-test
	@$(BIN)/python -m tests.torture

# Versions that are in a lock file stay unless a dependency needs another one, and each file serves every system and Python version.
# locks/test.lock decides; those of fewer libraries have the same versions.
LOCK :=
UV = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
lock:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/$(PIP) install uv
	@$(UV) $(LOCK) --annotation-style line --extra test pyproject.toml -o locks/test.lock
	@$(UV) --no-annotate -c locks/test.lock pyproject.toml -o locks/core.lock
	@$(UV) --no-annotate -c locks/test.lock --extra page pyproject.toml -o locks/page.lock
	@$(UV) --no-annotate -c locks/test.lock --extra page --extra export pyproject.toml -o locks/container.lock
	@echo setuptools | $(UV) --no-annotate -c locks/test.lock - -o locks/build.lock
	@echo opencv-python-headless | $(UV) --no-annotate --no-deps -c locks/test.lock - -o locks/opencv.lock
	@$(UV) $(LOCK) --no-annotate --resolution lowest-direct --extra test pyproject.toml -o locks/lowest.lock

# In an environment of its own, since nothing else needs pip-audit. It reads the lock file and resolves nothing; a library that it cannot
# ask about is an error, or an index without PyPI's vulnerabilities would count as none known.
audit:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/$(PIP) install pip-audit || { echo "error: pip-audit cannot be installed; make audit needs the network" >&2; exit 1; }
	@.venv-audit/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r locks/test.lock $(AUDIT)

clean:
	rm -rf .venv $(LOWEST) .venv-bench .venv-audit .venv-lock .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
