# Node 24 comes from node_modules, so that any Node >= 20 with npm >= 10 is enough to begin with.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
SHELL := /bin/bash -euo pipefail
INSTALLED := node_modules/.package-lock.json

.PHONY: help fmt lint test check build demo bench sim soak gen conformance minio minio-binary test-platform clean
.DEFAULT_GOAL := help

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

$(INSTALLED): package.json package-lock.json .npmrc
	@echo "Installing what is missing (about half a minute the first time) ..."
	@npm ci --loglevel=error
	@node -e 'const v = process.versions.node; if (!v.startsWith("24.")) { console.error(`Node 24 is needed, this is $${v}. On other systems than Linux x64, put Node 24 first on PATH.`); process.exit(1) }'

fmt: $(INSTALLED) ## Format sources and protos.
	biome check --write .
	buf format -w

lint: $(INSTALLED) ## Formatting, lint, types, unused code, protos, drift of generated code.
	biome check .
	oxlint --type-aware --deny-warnings
	tsc -p tsconfig.json
	tsc -p tsconfig.pure.json
	knip
	buf lint
	buf format --diff --exit-code
	if [ -f proto/baseline.binpb ]; then buf breaking --against proto/baseline.binpb; fi
	node deploy/drift.ts

gen: $(INSTALLED) ## Generate TypeScript from the protos, and the command-line reference.
	buf generate
	node src/main.ts docs > docs/cli.md

check: $(INSTALLED) ## The fast tests.
	vitest run --project unit

test: build ## Every test; ends with "N passed, N failed". Needs Go, to build MinIO once.
	-node test/minio/build-process.ts
	vitest run

build: $(INSTALLED) ## Bundle the program into dist/.
	node deploy/bundle.ts

demo: build ## The main job, end to end, on the embedded store.
	npx --no-install datapilot demo

bench: build ## Measure, each figure beside its baseline.
	node test/bench/main.ts $(BENCH)

sim: $(INSTALLED) ## The simulation with fresh seeds; SEED=… runs one again.
	DATAPILOT_SEED=$(SEED) vitest run test/sim/faults.test.ts

soak: $(INSTALLED) ## The simulation and kills of real servers and of MinIO for an hour; SOAK_MINUTES=… for longer or shorter.
	node test/sim/soak.ts $(SOAK_MINUTES)

conformance: $(INSTALLED) ## The official Connect and gRPC conformance suite, on both listeners (needs Go).
	test/conformance/run.sh

test-platform: $(INSTALLED) ## The tests that need a container engine and HAProxy.
	test/platform/run.sh

minio-binary: $(INSTALLED) ## Build MinIO into the cache, if it is not there.
	node test/minio/build-process.ts

minio: $(INSTALLED) ## A MinIO to try things on, until it is interrupted (builds it once; needs Go).
	node test/minio/minio-process.ts

clean: ## Remove what was built.
	rm -rf dist coverage node_modules
