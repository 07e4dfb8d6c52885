# Parley. `make` lists what there is.
#
# GO, TESTFLAGS, BENCH, SOAK, CALLS, BENCHTIME and FUZZTIME may be set on the command line:
#   make test TESTFLAGS='-run TestTurn -v'
#   make bench BENCH=S1,S4

GO        ?= go
TESTFLAGS ?=
BENCH     ?=
SOAK      ?= 30m
CALLS     ?= 10000,100000
BENCHTIME ?= 200ms
FUZZTIME  ?= 10s
IMAGE     ?= parley

# Two packages at a time: some hold a browser or a database, and all judge time.
test_flags := -race -p 2 -timeout 30m

.DEFAULT_GOAL := help
.PHONY: help run test rehearse build lint fuzz bench bench-control bench-calls soak storm microbench verify vuln image clean install-run install-test

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install-run build ## install what is missing, build, and start everything on this machine
	@exec ./bin/parley dev

# Whole calls by voice come last and alone: what they hear depends on a machine
# that keeps up. The sound of media is judged by numbers, and calls in virtual time
# by the hundred, without the race detector, which makes them ten times slower.
test: install-test lint ## install what is missing, then run every check and every test
	$(GO) test $(test_flags) $(TESTFLAGS) $$($(GO) list ./... | grep -v -e '/media$$' -e '/cmd/parley$$' -e '/calltest$$')
	$(GO) test -timeout 30m $(TESTFLAGS) ./media ./cmd/parley/calltest
	$(GO) test $(test_flags) -run 'Player|Jitter' ./media
	$(GO) test $(test_flags) $(TESTFLAGS) ./cmd/parley

rehearse: ## whole calls in virtual time, every one of them, with what was measured
	$(GO) test -v -timeout 30m $(TESTFLAGS) ./cmd/parley/calltest -full

build: ## build bin/parley, with nothing but Go
	@scripts/install.sh build
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/parley ./cmd/parley

lint: ## gofmt, go vet, staticcheck
	@scripts/install.sh build
	@files=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	  if [ -n "$$files" ]; then echo "not gofmt-ed:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fuzz: ## each fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: install-run build ## the gateway against bare relays: BENCH=S1,S4 or all of S1 to S10
	$(GO) build -trimpath -o bin/bench ./cmd/bench
	./bin/bench -only '$(BENCH)' -out bin/bench.json

bench-control: install-test ## requests a second and p99 of key checks, secrets and the audit trail
	$(GO) test -run '^$$' -bench 'Key|Secret|Audit|Access|Limit|TenantQuery' -benchtime $(BENCHTIME) -p 1 -timeout 40m ./control/... ./store/...

bench-calls: install-test ## lists, search, figures and deletions among CALLS calls (10000,100000), on a Postgres of its own
	PARLEY_CALLS=$(CALLS) $(GO) test -run '^$$' -bench '^BenchmarkCalls$$' -benchtime 1x -timeout 90m ./store/postgres

soak: install-run build ## calls that come and go for SOAK (30m); nothing may be left
	$(GO) build -trimpath -o bin/bench ./cmd/bench
	./bin/bench -only S9 -soak $(SOAK) -out bin/soak.json

storm: install-test ## 10,000 calls dropped while vendors fail, 10,000 writers at once, 200 turns under kill -9, 2,000 calls placed while all fails, each dependency lost 4 times, 1,000 malformed requests a route
	PARLEY_STORM=10000 $(GO) test -timeout 40m -run '^TestStorm$$' -v ./cmd/parley
	PARLEY_WRITERS=10000 $(GO) test -timeout 20m -run '^TestParallelWriters$$' -v ./control/api
	PARLEY_MALFORMED=1000 $(GO) test -timeout 40m -run '^TestMalformedRequests$$' -v ./cmd/parley
	PARLEY_DIALS=2000 $(GO) test -timeout 30m -run '^TestDials$$' -v ./cmd/parley
	PARLEY_OUTAGES=4 $(GO) test -timeout 30m -run '^TestOutages$$' -v ./cmd/parley
	PARLEY_KILLS=200 $(GO) test -timeout 20m -run '^TestKilledAtRandom$$' -v ./control
	PARLEY_FIGURES=700 $(GO) test -timeout 20m -run '^TestFiguresAreARecount$$' -v ./store/postgres

microbench: ## Go's benchmarks, each for BENCHTIME (200ms), without tests
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -p 1 ./...

verify: ## modules are what go.sum says, go.mod is tidy, macOS compiles
	$(GO) mod verify
	$(GO) mod tidy -diff
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...

vuln: ## known vulnerabilities that our code can reach
	@scripts/vuln.sh

image: ## a container image
	docker build --file deploy/Dockerfile --tag $(IMAGE) .

clean: ## remove bin/; the data folder .parley stays
	rm -rf bin

install-run:
	@scripts/install.sh run

install-test:
	@scripts/install.sh test
