# What a contributor calls. Each target prints what it does and ends with one line that says what happened.
SHELL := /bin/bash
export PATH := $(shell scripts/path)
# For virtual machines and tests: no firmware, no microcode.
RECIPE ?= configs/images/sheaf.toml
# For real machines.
METAL ?= configs/images/sheaf-metal.toml
SHEAF := target/release/sheaf

.PHONY: help demo console test test-all iso kube check bench setup setup-check sheaf

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: sheaf ## build all, install a machine in QEMU, show a VM running on it
	@$(SHEAF) demo --recipe $(RECIPE)

console: setup-check ## the administration console on a control plane of processes, with a few VM objects
	@cargo run --quiet -p sheaf-tests --bin console

iso: sheaf ## the bootable medium for real machines, with firmware and microcode
	@$(SHEAF) build $(METAL)
	@$(SHEAF) iso $(METAL)

kube: sheaf ## the control-plane binary alone
	@$(SHEAF) kube

test: setup-check ## everything that fits an hour on two cores: checks, units, real parts, machines in QEMU
	@scripts/test

test-all: setup-check ## every test there is; the result goes to docs/testing.md
	@scripts/test all

check: setup-check ## formatting, lints, licences
	@scripts/check

bench: sheaf ## measure, and write docs/benchmarks.md
	@scripts/bench

setup:
	@scripts/setup

setup-check:
	@scripts/setup check

sheaf: setup
	@cargo build --release --quiet --bin sheaf
