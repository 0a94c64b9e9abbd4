# What one does here. Each line can be run by hand; scripts that install something do nothing when it is there.

SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
PEERS := .cache/peers/bin/python
# Every target builds with the features that all tests together need: one build of the dependencies serves all.
WHOLE := --locked --workspace --features catena-tests/whole
PREFIX ?= $(HOME)/.local
SECONDS ?= 60
MILLIONS ?= 1,3

.PHONY: help demo test quick samples producers bench poison fuzz release install lint tools peers kafka

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: tools ## build, then start everything in one process, fed with real decision logs
	cargo build $(WHOLE) --bin catena
	$(TARGET)/debug/catena demo

test: ## everything: all rooms, a real Kafka, other readers of the lake, real logs
	tests/all.sh

quick: ## the thinking rooms and the house rules: a minute
	cargo test --locked

samples: ## totals of real decision logs against what their driver knows
	cargo build $(WHOLE) --bin catena
	python3 tests/samples.py

producers: kafka peers ## real OPA, Cerbos, Envoy and schema registry against a running Catena; builds the first two, once
	tests/install/producers.sh all
	cargo build $(WHOLE) --bin catena
	CATENA_BIN=$(TARGET)/debug/catena python3 tests/producers.py opa cerbos envoy registry

bench: release peers ## speed: ingest and chains against DuckDB on the same events (MILLIONS=1,3), each decoder in MB/s per core
	CATENA_BIN=$(TARGET)/release/catena CATENA_PEERS_PY=$(PEERS) python3 tests/bench/ingest.py
	CATENA_BIN=$(TARGET)/release/catena CATENA_PEERS_PY=$(PEERS) python3 tests/bench/chains.py --millions $(MILLIONS) --moving 20
	cargo test --locked --release --package catena-decode speed -- --ignored --nocapture --test-threads 1

poison: kafka peers release ## healthy partitions beside 20,000 unreadable records a second: do they keep their rate?
	CATENA_BIN=$(TARGET)/release/catena CATENA_PEERS_PY=$(PEERS) python3 tests/bench/poison.py

fuzz: ## decoders and redaction on made-up input, each target for SECONDS=60; TARGETS="opa mcp" for some
	fuzz/run.sh $(SECONDS) $(TARGETS)

release: tools ## the fully optimised binary
	cargo build $(WHOLE) --release --bin catena

install: release ## put `catena` on the path: $(PREFIX)/bin, by default ~/.local/bin
	install -D -m 755 $(TARGET)/release/catena $(DESTDIR)$(PREFIX)/bin/catena
	@command -v catena >/dev/null || echo "$(PREFIX)/bin is not on the PATH"

lint: ## what the compiler and clippy have to say, and the formatting
	cargo clippy --locked --workspace --all-targets --features catena-tests/whole -- -D warnings
	cargo fmt --all --check

tools:
	@tests/install/tools.sh build

peers:
	@tests/install/peers.sh

kafka:
	@tests/install/tools.sh test
	@tests/kafka/install.sh
