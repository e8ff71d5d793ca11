# make demo         sample data, training, detection, in one go
# make page         the page in a browser
# make test         lint, types, the whole suite but for the browser
# make test-quick   the tests that train nothing
# make test-lowest  the quick tests with the oldest libraries that pyproject.toml admits
# make test-page    the page in a real browser
# make bench        how fast it is, beside its peers: 40 minutes, with nothing else on the machine
# make torture      ten thousand mutated inputs for each reader, and kills at random moments: an hour
# make audit        known vulnerabilities of the libraries in the lock file, from the network
# make docs         the documentation as a site
# make figures      the shipped model's figures in README.md and its card, from its metrics.json
# make install      the environment alone
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest
# Byte code is made for what is imported, when it is; for all packages it would take a minute.
PIP := python -m pip --disable-pip-version-check --quiet

.PHONY: install demo page test test-quick test-lowest test-page bench torture audit docs figures clean

install: .venv/installed

# supervision's and imaug's OpenCV comes in two distributions that share their files; the one put in last stays, and the
# headless one needs no graphics libraries of the system.
OPENCV := install --no-compile --force-reinstall --no-deps opencv-python-headless

# $(1) is the environment, $(2) the lock file, $(3) what is installed.
define installed
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	@echo "installing into $(1) (this takes minutes, once)"
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/$(PIP) install --no-compile -c $(2) -e $(3)
	@$(1)/bin/$(PIP) $(OPENCV) -c $(2)
	@touch $@
endef

.venv/installed: pyproject.toml requirements.lock
	$(call installed,.venv,requirements.lock,.)

.venv/installed-test: pyproject.toml requirements.lock
	$(call installed,.venv,requirements.lock,".[test]")
	@touch .venv/installed

$(LOWEST)/installed: pyproject.toml requirements-lowest.lock
	$(call installed,$(LOWEST),requirements-lowest.lock,".[test]")

demo: install
	@bash download.sh sample
	@$(BIN)/python train.py --config=configs/from_scratch.yaml --set train_images=data/sample --set name=demo --set epochs=6 --set proposer_epochs=10 --set proposer_steps=100
	@$(BIN)/python run.py --model models/demo --image 'data/sample/images/slide5*.jpg' --annotations data/sample/test.json --output results/demo
	@echo "images with boxes: results/demo/annotated   report: results/demo/report.html"

page: install
	@$(BIN)/$(PIP) install -c requirements.lock -e ".[page]"
	@$(BIN)/$(PIP) $(OPENCV) -c requirements.lock
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

# In an environment of its own, since nothing else needs pip-audit.
audit:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/$(PIP) install pip-audit
	@.venv-audit/bin/pip-audit --disable-pip --no-deps -r requirements.lock

clean:
	rm -rf .venv $(LOWEST) .venv-bench .venv-audit .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
