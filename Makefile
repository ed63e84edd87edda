# The commands of this repository. Each installs what it lacks (Debian and Ubuntu).
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
.PHONY: help setup build demo test bench bench-side-by-side bench-growth bench-rules bench-daemon bench-mysql bench-micro bench-memory lint

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## install what building and the demo need
	@scripts/setup

build: setup ## build the binary: target/debug/trem
	cargo build -p trem

demo: build ## two private PostgreSQL servers, a live shop, trem between them; KEEP=1 leaves it running, SHORT=1 hurries
	cargo run -q -p trem-demo

test: ## everything that must hold: format, lints, build, all tests
	@scripts/setup tests
	@scripts/test

lint: setup ## format and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: bench-side-by-side bench-growth bench-rules bench-daemon bench-mysql bench-micro bench-memory ## all benchmarks; not part of `make test`

bench-side-by-side: setup ## trem against COPY, native replication and others; ARGS="--only drain-mix" for a part
	@scripts/setup benches
	cargo run -q --release -p trem-benches --bin side-by-side -- $(ARGS)

bench-growth: setup ## what grows: ten million changes once; 1, 100 and 1,000 tables, with a backlog and five times that
	@scripts/setup benches
	cargo run -q --release -p trem-benches --bin side-by-side -- --only growth-backlog-10m --repetitions 1 --name growth-10m
	cargo run -q --release -p trem-benches --bin side-by-side -- --only 'growth-tables-*' --with trem,native \
	    --name growth-tables
	cargo run -q --release -p trem-benches --bin side-by-side -- --only 'growth-tables-*' --with trem,native \
	    --scale 5 --name growth-tables-5

bench-rules: setup ## what rules cost: the same task without and with them
	@scripts/setup benches
	cargo run -q --release -p trem-benches --bin rules -- $(ARGS)

bench-daemon: setup ## what the daemon costs: 200 tasks, answers at full rate, against `trem run`
	cargo build --release -p trem
	TREM_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/release/trem cargo run -q --release -p trem-benches --bin daemon -- $(ARGS)

bench-mysql: setup ## MariaDB: loads against a pipe of text, changes against the server's own replica
	@scripts/setup tests
	cargo run -q --release -p trem-benches --bin mysql -- $(ARGS)

bench-micro: setup ## decoding, compaction and encoding on one core, with their allocations
	cargo bench -q -p trem-benches --bench micro > $(or $(CARGO_TARGET_DIR),target)/micro.txt
	cargo run -q -p trem-benches --bin micro-report < $(or $(CARGO_TARGET_DIR),target)/micro.txt

bench-memory: setup ## peak memory: a transaction of 5 million rows, a row of 200 MB, 1,000 tables
	cargo build --release -p trem
	TREM_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/release/trem cargo run -q -p trem-tests --bin memory
