# The few commands of this repository; `make help` lists them. All set up what they need first and are quick the second
# time. MIGRASCOPE_CACHE moves the cache (default: ~/.cache/migrascope), PYTHON names another interpreter (3.11 or newer).

SHELL := /bin/bash
BIN := .venv/bin
DEMO := $(BIN)/migrascope compare demo --accel tcg
# Everything that tests start beside the installed QEMU, unpacked into the cache.
TOOLS := prometheus alertmanager victoria-metrics influxdb qemu-10 chromium iproute2 numactl openssh
# On Debian 12 every tool can be had, so there a test whose tool is missing fails; elsewhere it is skipped, with the reason.
REQUIRE_ALL := $(shell grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && echo 1)

.DEFAULT_GOAL := help
.PHONY: help demo stack test lint bench matrix setup setup-test lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: setup ## set up, then three real migrations, live metrics, a report and a history
	$(DEMO)
	@echo "Watch the next one live in Prometheus: make stack, then make demo again" >&2

stack: setup ## Prometheus, Alertmanager and (where installed) Grafana on this host; `migrascope stack down` ends them
	@deploy/setup/unpack.sh prometheus alertmanager victoria-metrics
	$(BIN)/migrascope stack up

test: setup-test lint ## set up, then every check: lint, types, layers, tests with real QEMUs and servers
	MIGRASCOPE_REQUIRE_ALL=$(REQUIRE_ALL) $(BIN)/pytest -rfEs

lint: setup-test ## ruff, mypy and import-linter alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-test ## every measurement in bench/, one after the other
	for file in $(filter-out bench/matrix.py,$(wildcard bench/[a-z]*.py)); do echo "== $$file"; $(BIN)/python -m "bench.$$(basename "$$file" .py)" || exit; done

matrix: setup-test ## every strategy over every transport on both QEMUs; goes on where it was cut; writes docs/matrix.md
	$(BIN)/python -m bench.matrix

setup: ## what `make demo` needs: compiler, QEMU, .venv, guest kernel and initrd
	@deploy/setup/system.sh
	@deploy/setup/venv.sh run
	@deploy/setup/guest.sh

setup-test: ## what `make test` needs: the same and test tools, servers, QEMU 10 and a browser in the cache
	@deploy/setup/system.sh
	@deploy/setup/venv.sh test
	@deploy/setup/guest.sh
	@deploy/setup/unpack.sh $(TOOLS)

lock: ## choose the newest versions of all dependencies and write deploy/lock/ anew
	@deploy/setup/lock.sh

clean: ## remove .venv and what tools left in the checkout; the cache and recorded runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist workload/init
	find . -name __pycache__ -prune -exec rm -rf {} +
