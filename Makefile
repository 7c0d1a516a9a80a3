# SPDX-License-Identifier: Apache-2.0
# Thin: each target is a script of tools/, which can be called by itself.
PREFIX ?= /usr/local
DESTDIR ?=
export PREFIX DESTDIR

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /  make \1\t/p' Makefile | expand -t 20

run: ## build, start Perigee, deploy the bundled model, ask it (ONCE=1: end after the answer)
	@tools/build && tools/run

demo-edge: ## two minutes: six places, a request near each, a death, the law, a cold start (FAST=1: no pauses)
	@tools/build && tools/demo-edge

demo-image: ## a minute: an image built here becomes an endpoint; a spike, replicas up and down to zero, usage and cost
	@tools/build && tools/demo-image

test: ## what every change must pass, under 15 minutes; ends with the sum
	@tools/setup test && tools/run-tests

test-all: ## test, and the whole matrix, TSan, clang-tidy, coverage, 5 minutes a fuzz target
	@tools/setup test lint conformance && tools/run-tests --all

build: ## the program, as build/perigee
	@tools/build

bench: ## tables: beside in-process ONNX Runtime, nginx, FastAPI, MLServer, Knot, bare engines; start-up, overload, walls, crowds, zero (40 minutes)
	@tools/setup bench && bench/run && bench/life --no-build && bench/overload --no-build && bench/walls && bench/dns && bench/hop --no-build && \
		bench/crowd --no-build && bench/zero --no-build && bench/image --no-build && bench/proxy --no-build && bench/upgrade --no-build

lint: ## include order, lengths, banned calls; clang-format and clang-tidy
	@tools/run-lint

fuzz: ## fuzz every parser of outside bytes, 5 minutes each (SECONDS_EACH=300)
	@tools/run-fuzz

install: build ## into DESTDIR/PREFIX (PREFIX=/usr/local)
	@tools/install

clean: ## remove what was built here; the cache of dependencies stays
	@rm -rf build build-*

.PHONY: help run demo-edge demo-image test test-all build bench lint fuzz install clean
