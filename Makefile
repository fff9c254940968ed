# A table of short commands. `make demo` and `make test` do all their own set-up, given Rust and a C compiler.

.PHONY: help demo test bench bench-micro planted soak guests fmt

help:            ## say what there is
	@grep -E '^[a-z-]+: .*##' Makefile | sed 's/: *[^#]*##/\t/'

demo: guests     ## build everything, run the shop and the fulfilment saga, show what came of them
	cargo build --release -p tidegate
	examples/shop/demo target/release/tidegate
	examples/fulfilment/demo target/release/tidegate

test: guests     ## format, lints, every test
	cargo fmt --all --check
	cargo fmt --manifest-path examples/Cargo.toml --all --check
	cargo fmt --manifest-path tests/guests/Cargo.toml --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --locked --no-fail-fast
	cargo test --manifest-path examples/Cargo.toml --locked --target-dir target/examples

bench: guests    ## the floor of this machine and Tidegate beside it, with the ratios; see BENCHMARKS.md
	cargo build --release -p tidegate -p tidegate-floor
	target/release/tidegate-floor

bench-micro: guests  ## the functions that every event goes through, one by one
	cargo bench -p tidegate --bench hot

planted:         ## the table of planted bugs and which suite finds each
	cargo test --locked -p tidegate --lib planted -- --nocapture --test-threads 1

soak:            ## the proofs for hours: a million schedules, 20,000 crash images, 2,000 kills
	TIDEGATE_SCHEDULES=1000000 cargo test --locked -p tidegate --lib simulation::tests::schedules -- --nocapture
	TIDEGATE_IMAGES=20000 TIDEGATE_FLIPS=4000 cargo test --locked -p tidegate --lib storage_tests -- --nocapture
	TIDEGATE_KILLS=2000 cargo test --locked --workspace -- crash:: --nocapture

guests:          ## compile the consumers of the examples and of the tests to WebAssembly
	examples/build
	tests/guests/build

fmt:             ## format the sources
	cargo fmt --all
	cargo fmt --manifest-path examples/Cargo.toml --all
	cargo fmt --manifest-path tests/guests/Cargo.toml --all
