# For developers. `./demo` and `./test` set a machine up by themselves and end up here.

CARGO ?= cargo

.PHONY: all check test test-unit test-e2e bench man clean

all:
	$(CARGO) build --release

# What CI checks before the tests.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

test: test-unit test-e2e

test-unit:
	$(CARGO) test --workspace --exclude goldleaf-e2e

# Real guests. The release build, because emulated guests are slow enough by themselves.
test-e2e:
	$(CARGO) build --release --bin goldleaf
	$(CARGO) test --release -p goldleaf-e2e -- --test-threads=1 --nocapture

bench:
	$(CARGO) run --release -p goldleaf-bench

clean:
	$(CARGO) clean
