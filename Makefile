# SPDX-License-Identifier: Apache-2.0
# The front door. Meson builds the programs, guest/ the guest image; this only knows the order.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
IMAGE   := $(BUILD)/image

.PHONY: all deps image demo test conformance bench bench-check install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

help:
	@echo 'make deps      install the Debian packages that building, running and testing need'
	@echo 'make           build the programs into $(BUILD)/'
	@echo 'make image     build the guest kernel and the guest image into $(IMAGE)/'
	@echo 'make demo      all of the above, then run a container in a microVM'
	@echo 'make test      all of the above, then run all tests'
	@echo 'make conformance  run critest with runc and podvm on containerd 2; prints a table'
	@echo 'make bench     measure; prints tables and writes $(BUILD)/bench*.json'
	@echo 'make bench-check  measure what is repeatable; fails when bench/budget.json is exceeded'
	@echo 'make install   install into DESTDIR/PREFIX (PREFIX is /usr/local)'
	@echo 'make clean     remove what was built; the kernel stays cached in ~/.cache/podvm'

deps:
	@scripts/deps.sh

$(BUILD)/build.ninja:
	meson setup --prefix=$(PREFIX) -Dimage_dir=$(PREFIX)/share/podvm -Dtests=false $(BUILD)

image: all
	@guest/image/build.sh --agent $(BUILD)/src/agent/podvm-agent --out $(IMAGE) --debug

demo: deps
	@$(MAKE) --no-print-directory image
	@scripts/demo.sh $(BUILD)

test: deps
	@$(MAKE) --no-print-directory image
	@scripts/test.sh $(BUILD)

conformance: deps
	@$(MAKE) --no-print-directory image
	@tests/conformance/run.sh $(BUILD)

bench: deps
	@$(MAKE) --no-print-directory image
	@bench/run.sh $(BUILD)

bench-check: deps
	@$(MAKE) --no-print-directory image
	@bench/check.sh $(BUILD)

install: all
	meson configure --prefix=$(PREFIX) -Dimage_dir=$(PREFIX)/share/podvm $(BUILD)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --quiet
	install -d $(DESTDIR)$(PREFIX)/share/podvm
	[ ! -e $(IMAGE)/manifest.json ] || install -m 644 $(IMAGE)/vmlinux $(IMAGE)/*.erofs \
		$(IMAGE)/manifest.json $(DESTDIR)$(PREFIX)/share/podvm/

clean:
	rm -rf $(BUILD) build-test
