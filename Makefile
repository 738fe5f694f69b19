# `make` alone lists what can be made. `run` and `build` need Go and nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# For you to set: make run ARGS="--config countersign.yaml", make fuzz FUZZTIME=1m FUZZ=wire.
ARGS     ?=
BENCH    ?= .
FUZZ     ?=
FUZZTIME ?= 10m

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Everything that is built lies here, and here only.
BIN := bin
# The tools are built anew for another Go: a linter refuses sources newer than the Go it was built with.
TOOLS := $(BIN)/tools/$(firstword $(shell go env GOVERSION 2>/dev/null))
# SQLite is C that a program has translated to Go, and guards its memory by locks of its own; hashes of passwords are meant to be
# slow. The race detector finds nothing in them, and makes the suite take three times as long. All else is instrumented.
PLAIN := modernc.org/sqlite/lib modernc.org/libc/... modernc.org/memory golang.org/x/crypto/blowfish golang.org/x/crypto/scrypt
RACE  := -race $(foreach p,$(PLAIN),-gcflags=$(p)=-race=false)

.PHONY: help
help: ## list what can be made
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build and serve; ARGS="--config F --data DIR" are passed on
	$(BIN)/countersign serve $(ARGS)

.PHONY: build
build: go ## build the static binary bin/countersign
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/countersign ./cmd/countersign

.PHONY: dev
dev: $(TOOLS)/templ ## serve, and build and serve again after every change; ARGS as for run
	TEMPL=$(TOOLS)/templ .ci/dev $(ARGS)

.PHONY: test
test: deps lint ## run everything that must hold before a change is accepted
	CHROMIUM="$$(.ci/deps)" && export CHROMIUM && CGO_ENABLED=1 go test $(RACE) -timeout 15m ./...

.PHONY: lint
lint: fresh $(TOOLS)/golangci-lint ## check generated files, formatting, go.mod, and what the linters know
	@test "$$(go list -m github.com/a-h/templ)" = "$$(cd .ci/tools && go list -m github.com/a-h/templ)" || \
		{ echo 'templ differs between go.mod and .ci/tools/go.mod; raise both' >&2; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(TOOLS)/golangci-lint run ./...

.PHONY: pictures
pictures: deps ## keep a picture of every page, light, dark and narrow, in bin/pictures
	CHROMIUM="$$(.ci/deps)" && export CHROMIUM && TEST_OUTPUT=$(CURDIR)/$(BIN)/pictures go test -count 1 -run 'InTheBrowser|InABrowser' ./server

.PHONY: bench
bench: go ## run the benchmarks; BENCH=REGEXP chooses
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: fuzz
fuzz: go ## fuzz each target in turn; FUZZTIME=10m each, FUZZ=TEXT chooses by package or name
	FUZZTIME=$(FUZZTIME) .ci/fuzz $(FUZZ)

.PHONY: generate
generate: $(TOOLS)/templ ## write the generated files anew
	$(TOOLS)/templ generate
	go generate ./...

.PHONY: fmt
fmt: $(TOOLS)/gofumpt $(TOOLS)/templ ## format Go and templates in place
	$(TOOLS)/templ fmt .
	$(TOOLS)/gofumpt -w .

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)

# Below: what the commands above need.

.PHONY: go
go:
	@command -v go >/dev/null || { echo 'Go 1.26 or newer is needed: https://go.dev/dl/' >&2; exit 1; }

.PHONY: deps
deps: go
	@.ci/deps >/dev/null

.PHONY: fresh
fresh: $(TOOLS)/templ $(TOOLS)/gofumpt
	@.ci/fresh $(abspath $(TOOLS))

$(TOOLS)/templ: PACKAGE := github.com/a-h/templ/cmd/templ
$(TOOLS)/gofumpt: PACKAGE := mvdan.cc/gofumpt
$(TOOLS)/golangci-lint: PACKAGE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/templ $(TOOLS)/gofumpt $(TOOLS)/golangci-lint: .ci/tools/go.mod .ci/tools/go.sum | go
	@echo 'building $(@F) …'
	@cd .ci/tools && go build -trimpath -buildvcs=false -o $(abspath $@) $(PACKAGE)
