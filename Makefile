# SPDX-License-Identifier: MIT
# A thin front for meson and the scripts; `make help` lists it.

BUILD ?= build
MESON_FLAGS ?=

.PHONY: help setup all demo check check-full check-unit check-e2e \
	check-asan check-tsan sim model mutations bench lint install clean

help:
	@echo "make setup    install what is needed from Debian (quick when all is there)"
	@echo "make          build $(BUILD)/aerostat"
	@echo "make demo     a stock Debian guest moves without and with hinting (minutes)"
	@echo "make check    every test; ends with 'N passed, N failed, N skipped'"
	@echo "make check-full  and all of the matrix: protocols, features, backings"
	@echo "make sim      the simulator: SEEDS=N schedules"
	@echo "make model    the models of the protocols, searched by spin"
	@echo "make mutations  the code with its rules broken, and who notices"
	@echo "make bench    moves and balloon against QEMU's, what a request costs (hours)"
	@echo "make lint     sparse, cppcheck, sizes"
	@echo "make install  into DESTDIR, as root"
	@echo "make clean    remove $(BUILD)"

setup:
	@scripts/setup.sh

$(BUILD)/build.ninja: | setup
	@mkdir -p $(BUILD)
	@meson setup $(MESON_FLAGS) $(BUILD) >$(BUILD)/meson-setup.log || \
		{ cat $(BUILD)/meson-setup.log; exit 1; }

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

.DEFAULT_GOAL := all

demo: setup all
	@tests/demo.py

check: setup all
	@tests/check.py

check-unit: all
	@tests/check.py unit

check-e2e: setup all
	@tests/check.py e2e

# The same and every cell of the matrix.
check-full: setup all
	@tests/check.py full

# The program and its tests under AddressSanitizer and UBSan, or under TSan.
check-asan check-tsan: setup all
	@tests/check.py $(@:check-%=%)

# Schedules of the simulator; the seed of one that fails plays it again.
SEEDS ?= 100000
sim: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet tests/sim/sim
	@$(BUILD)/tests/sim/sim --seeds $(SEEDS)

model:
	@tests/model/check.py

mutations: all
	@tests/mutations/run.py

bench: all
	@bench/migration
	@bench/balloon
	@bench/request-cost
	@bench/size

lint: all
	@tests/lint.sh $(BUILD)

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf $(BUILD)
