SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
FUZZTIME ?= 1m

.DEFAULT_GOAL := help
.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build both binaries into bin/
	$(GOBUILD) -o bin/ ./relay/cmd/fairlead-relay ./agent/cmd/fairlead-agent

.PHONY: build-all
build-all: ## build both binaries for linux and windows, amd64 and arm64, into bin/
	for os in linux windows; do for arch in amd64 arm64; do \
		GOOS=$$os GOARCH=$$arch $(GOBUILD) -o bin/$$os-$$arch/ ./relay/cmd/fairlead-relay ./agent/cmd/fairlead-agent; \
	done; done

.PHONY: demo
demo: build ## start a relay, an agent and a backend, and show calls crossing (ONCE=1: end after the steps)
	$(GOBUILD) -o bin/ ./e2e/demo ./e2e/demo/orders ./certs/certstest/devcerts
	bin/demo -bin bin -dir .demo $(if $(ONCE),-once)

.PHONY: test
test: test-deps ## run every test; as root on Debian it first installs the servers that the tests need
	go vet ./...
	GOOS=windows go vet ./agent/... ./relay/...
	$(MAKE) build-all
	go test -race -shuffle=on -timeout 25m ./...
	$(MAKE) demo ONCE=1

.PHONY: test-deps
test-deps: # the servers and tools of the end-to-end tests, listed in e2e/deps.sh
	e2e/deps.sh

SPIRE_BIN := $(CURDIR)/bin/spire

.PHONY: test-spire
test-spire: ## run relay, agent and callers on real SPIRE; the first run builds it, which takes some 15 minutes
	mkdir -p $(SPIRE_BIN)
	CGO_ENABLED=1 go -C packaging/spire build -o $(SPIRE_BIN)/ github.com/spiffe/spire/cmd/spire-server github.com/spiffe/spire/cmd/spire-agent
	SPIRE_BIN=$(SPIRE_BIN) go test -race -tags spire -count=1 -v -timeout 30m ./e2e/spire

.PHONY: race
race: ## run the link, agent and relay tests ten times under the race detector
	go test -race -shuffle=on -count=10 -timeout 30m ./protocol/... ./certs/... ./agent/... ./relay/...

.PHONY: e2e
e2e: test-deps ## run the end-to-end tests alone
	go test -race -v -timeout 15m ./e2e/...

.PHONY: lint
lint: ## run golangci-lint (the first run builds it)
	go tool -modfile=packaging/tools.mod golangci-lint run ./...

.PHONY: fuzz
fuzz: ## run every fuzz target, FUZZTIME=1m each
	e2e/fuzz.sh $(FUZZTIME)

.PHONY: cover
cover: ## write cover.out and print the coverage of each package
	go test -coverprofile=cover.out ./protocol/... ./certs/... ./agent/... ./relay/...
	go tool cover -func=cover.out | tail -1

.PHONY: bench
bench: build bench-deps ## compare with baselines, as root (QUICK=1: 3 minutes; ONLY=regexp: of sections; FRPS= FRPC= CHISEL=: binaries of peers)
	$(GOBUILD) -o bin/ ./e2e/bench
	bin/bench -bin bin -only '$(ONLY)' $(if $(QUICK),-quick) $(if $(N),-n $(N))

.PHONY: bench-deps
bench-deps: # what the benchmark starts beside our own programs
	e2e/bench/deps.sh

.PHONY: microbench
microbench: ## run the micro-benchmarks
	go test -run '^$$' -bench . -benchmem ./protocol/... ./certs/... ./agent/... ./relay/...

.PHONY: dev-certs
dev-certs: ## write CAs, identities and a token for a local trial into .dev/
	go run ./certs/certstest/devcerts -out .dev

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin .demo .dev cover.out bench.json bench.svg
