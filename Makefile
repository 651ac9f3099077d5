# For developers. `./demo` and `./test` set a machine up by themselves and end up here.

CARGO ?= cargo
# Of each fuzz target.
SECONDS ?= 20
MANDIR ?= target/man
# Images of the benchmark of distribution.
DISTRIBUTION ?= target/bench-distribution

.PHONY: all help check test test-long test-unit test-proof test-e2e bench bench-distribution fuzz man clean

# This package alone: built with the others it would have the features that their tests switch on.
all:
	$(CARGO) build --release -p goldleaf

help:
	@echo 'make            build the program, optimised'
	@echo 'make check      what CI runs before the tests: format, lints, the tidy test'
	@echo 'make test       all tests: test-unit, test-proof, test-e2e'
	@echo 'make test-unit  everything that needs no guest'
	@echo 'make test-proof crashes and hostile input by the million; bench/reliability.json'
	@echo 'make test-e2e   real guests; minutes, and many where there is no KVM'
	@echo 'make bench      the benchmarks'
	@echo 'make bench-distribution  what publishing and subscribing cost; fetches packages once'
	@echo 'make fuzz       all fuzz targets, each for SECONDS ($(SECONDS)); FUZZ_JOBS at once (1)'
	@echo 'make man        the manual pages, into $(MANDIR)'
	@echo 'make clean      remove what was built, kept test images included'

# What CI checks before the tests.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test -p goldleaf --test tidy

test: test-unit test-proof test-e2e

test-unit:
	$(CARGO) test --workspace --exclude goldleaf-e2e --exclude goldleaf-proof

# What the product promises about crashes and hostile input. Needs root, for mounts. Built quickly,
# because building counts as well.
test-proof:
	$(CARGO) test --profile quick -p goldleaf-proof
	$(CARGO) run --profile quick -p goldleaf-proof

# Real guests. The release build, because emulated guests are slow enough by themselves.
test-e2e:
	$(CARGO) build --release -p goldleaf
	$(CARGO) test --release -p goldleaf-e2e -- --test-threads=1 --nocapture

# What takes too long for every submission.
test-long: test
	$(CARGO) run --release -p goldleaf-proof -- --long
	$(CARGO) test --release -p goldleaf-e2e -- --test-threads=1 --nocapture --ignored

bench:
	$(CARGO) run --release -p goldleaf-bench

# Keeps its images below target/, and fetches nothing once they are there. Needs root and room.
bench-distribution:
	$(CARGO) run --release -p goldleaf-bench -- distribution --in=$(DISTRIBUTION) --peers

# Every parser of bytes that somebody else wrote. Fails when one crashes, and says with which input.
fuzz:
	fuzz/run $(SECONDS)

man:
	$(CARGO) run --release --bin goldleaf -- man $(MANDIR)

clean:
	$(CARGO) clean
