# The usual tasks as single words; the build itself is CMake's (CMakeLists.txt). A bare `make` lists them.
# Variables: BUILD (folder), CMAKE_FLAGS (more -D...), PREFIX (install), JOBS, SECONDS_EACH (fuzz), PEERS_FLAGS (peers).

BUILD        ?= build
PREFIX       ?= /usr/local
JOBS         ?= $(shell nproc 2>/dev/null || echo 2)
SECONDS_EACH ?= 10
CMAKE_FLAGS  ?=
CLANG        ?= clang

# Ninja where a folder is configured for the first time and Ninja is there.
configure = cmake -S . -B $(1) $(if $(wildcard $(1)/CMakeCache.txt),,$(if $(shell command -v ninja),-G Ninja)) --log-level=WARNING $(2) $(CMAKE_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help setup setup-check build demo test install uninstall fuzz sanitize lint coverage format deb wheel peers test-neon test-avx512 clean

help: ## this list
	@echo "dla: Deep Layer Aggregation networks in C. Start with: make demo"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the compilers and libraries that are missing (Debian, Ubuntu; asks sudo only then)
	@tools/install_dependencies.sh build

setup-check: ## the same, and what fuzz, sanitize, lint and coverage need
	@tools/install_dependencies.sh build check

build: setup ## build/dla, the library and the tests
	@$(call configure,$(BUILD),)
	@cmake --build $(BUILD) -j $(JOBS)

demo: build ## classify the photographs in examples/photos with the built-in network
	$(BUILD)/dla classify examples/photos/*.jpg examples/photos/*.webp

test: build ## all tests
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS)

install: build ## program, library, header, man pages, completion into PREFIX (/usr/local)
	@cmake --install $(BUILD) --prefix $(PREFIX)

uninstall: ## remove what the last `make install` from this folder wrote
	@tools/uninstall.sh $(BUILD)/install_manifest.txt

fuzz: setup-check ## run every fuzzer for SECONDS_EACH (10) seconds
	@$(call configure,build-fuzz,-DDLA_FUZZ=ON -DCMAKE_C_COMPILER=$(CLANG) -DCMAKE_CXX_COMPILER=$(CLANG)++)
	@cmake --build build-fuzz -j $(JOBS)
	@fuzz/run_all.sh build-fuzz $(SECONDS_EACH)

sanitize: setup ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call configure,build-sanitize,-DDLA_SANITIZE=ON)
	@cmake --build build-sanitize -j $(JOBS)
	@cd build-sanitize && ctest --output-on-failure -j $(JOBS)

lint: setup-check build ## clang-tidy over the C sources, shellcheck over the scripts
	@tools/lint.sh $(BUILD)

coverage: setup-check ## all tests, then how many lines of src/ and cli/ they ran (build-coverage/)
	@$(call configure,build-coverage,-DDLA_COVERAGE=ON -DCMAKE_C_COMPILER=$(CLANG) -DCMAKE_CXX_COMPILER=$(CLANG)++)
	@cmake --build build-coverage -j $(JOBS)
	@tools/coverage.sh build-coverage

format: ## clang-format over the sources that differ from the last commit
	@git diff --name-only --diff-filter=d HEAD -- '*.c' '*.h' | xargs -r clang-format -i

deb: setup ## a Debian package in build-deb/
	@$(call configure,build-deb,-DDLA_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr)
	@cmake --build build-deb -j $(JOBS)
	@cd build-deb && cpack -G DEB

wheel: build ## the Python package in build/wheel/ (python/README.md)
	@DLA_LIBRARY=$(BUILD)/libdla.so python3 python/build_wheel.py $(BUILD)/wheel

peers: build ## speed beside ONNX Runtime, OpenVINO, PyTorch, ncnn (a venv of 2 to 6 GB); PEERS_FLAGS="--threads 2,1 --batch 1,8 --write"
	@PEERS_BUILD=$(BUILD) bench/peers/run.sh $(PEERS_FLAGS)

test-neon: ## tests of the kernels for 64-bit ARM, under qemu (gcc-aarch64-linux-gnu, qemu-user)
	@cmake -S tests/emulated -B build-neon --log-level=WARNING -DISA=neon -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/cmake/aarch64.cmake
	@cmake --build build-neon -j $(JOBS)
	@cd build-neon && ctest --output-on-failure

test-avx512: ## tests of the kernels for AVX-512 and AMX, emulated on a machine with AVX2 alone
	@cmake -S tests/emulated -B build-avx512 --log-level=WARNING -DISA=avx512
	@cmake --build build-avx512 -j $(JOBS)
	@cd build-avx512 && ctest --output-on-failure

clean: ## remove all build folders
	rm -rf $(BUILD) build-fuzz build-sanitize build-coverage build-deb build-neon build-avx512 build-cuda
