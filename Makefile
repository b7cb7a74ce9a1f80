# SPDX-License-Identifier: Apache-2.0
# One Makefile, no recursion. A program is a folder of the same name; what a program links is said in one line each.
#
#   make            all programs, into build/bin
#   make demo       the main job, end to end, on this machine (root)
#   make check      every test, the demo among them (root)
#   make bench      ratios against named rivals, into build/bench/results.jsonl
#   make deps       install what a fresh Debian 12 lacks
#   make units      systemd units and AppArmor profiles, from the tables of privileges, into build/packaging
#   make audit-pages  the pages for auditors in docs/audit, from the same tables
#
# VARIANT=asan builds everything with ASan and UBSan into build/asan, VARIANT=fuzz into build/fuzz.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

VERSION := 0.1.0
VARIANT ?= release
ifeq ($(VARIANT),release)
B := build
else
B := build/$(VARIANT)
endif
O := $(B)/obj

CC := gcc
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 \
	-Wundef -Wvla -Wcast-align=strict -Wwrite-strings
HARDENING := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -D_FORTIFY_SOURCE=2 \
	-ftrivial-auto-var-init=zero
LINK_HARDENING := -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,--as-needed
CFLAGS := -std=c11 -O2 -g -D_GNU_SOURCE -DLOOPBACK_VERSION='"$(VERSION)"' -I. $(WARNINGS)
LDFLAGS := $(LINK_HARDENING)

ifeq ($(VARIANT),asan)
CFLAGS := $(filter-out -O2,$(CFLAGS)) -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS := -fsanitize=address,undefined
else ifeq ($(VARIANT),fuzz)
CC := clang
WARNINGS := -Wall -Wextra
CFLAGS := -std=c11 -O1 -g -D_GNU_SOURCE -DLOOPBACK_VERSION='"$(VERSION)"' -I. -fno-omit-frame-pointer \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS := -fsanitize=fuzzer,address,undefined
else
# PACKAGE_CFLAGS, PACKAGE_LDFLAGS: what a distribution adds; the project's own hardening comes after it
# A distribution's compiler is another one than ours: what it newly warns of must not keep its package from being built.
CFLAGS := $(if $(PACKAGE_CFLAGS),$(filter-out -Werror,$(CFLAGS)),$(CFLAGS)) $(PACKAGE_CFLAGS) -U_FORTIFY_SOURCE $(HARDENING)
LDFLAGS += $(PACKAGE_LDFLAGS)
endif

# msgpack-c's library was renamed between Debian 12 and 13
MSGPACK := $(if $(wildcard $(shell $(CC) -print-file-name=libmsgpack-c.so)),-lmsgpack-c,-lmsgpackc)
AGENT_LIBS := -lsodium $(MSGPACK) -lseccomp
PROGRAMS := netd fetchd wg-launch controld signd loopback loopbackctl

# program: its folder, its libraries
LIBS_netd        := $(AGENT_LIBS) -lmnl
LIBS_fetchd      := $(AGENT_LIBS) -lcurl
LIBS_wg-launch   := $(AGENT_LIBS)
LIBS_controld    := $(AGENT_LIBS) -lmicrohttpd -ljansson -lsqlite3
LIBS_signd       := $(AGENT_LIBS) -lsqlite3
LIBS_loopback    := $(AGENT_LIBS) -lmnl
LIBS_loopbackctl := $(AGENT_LIBS) -lcurl -ljansson

SRC_netd        := $(wildcard netd/*.c) $(wildcard libwg/*.c) $(wildcard libjournal/*.c)
SRC_fetchd      := $(wildcard fetchd/*.c)
SRC_wg-launch   := $(wildcard wg-launch/*.c)
SRC_controld    := $(wildcard controld/*.c) $(wildcard libstore/*.c)
SRC_signd       := $(wildcard signd/*.c) $(wildcard libstore/*.c)
SRC_loopback    := $(wildcard cli/loopback/*.c) $(wildcard cli/common/*.c) wg-launch/filter.c libwg/netlink.c libwg/rtnl.c
SRC_loopbackctl := $(wildcard cli/loopbackctl/*.c) $(wildcard cli/common/*.c)

LIB_SRC := $(wildcard libipc/*.c) $(wildcard libdoc/*.c) $(wildcard privileges/*.c)
LIB := $(O)/libloopback.a

objects = $(patsubst %.c,$(O)/%.o,$(1))

.PHONY: all
all: $(PROGRAMS:%=$(B)/bin/%) units

$(LIB): $(call objects,$(LIB_SRC))
	@rm -f $@.$$$$ && ar rcs $@.$$$$ $^ && mv -f $@.$$$$ $@

$(O)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "CC $<"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The install script is part of controld.
$(O)/controld/install.o: packaging/install/install.sh.in

define program
$(B)/bin/$(1): $(call objects,$(SRC_$(1))) $(LIB)
	@mkdir -p $$(@D)
	@echo "LD $$@"
	@$$(CC) $$(LDFLAGS) -o $$@ $$^ $$(LIBS_$(1))
endef
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p))))

# -- What is generated from the tables of privileges ------------------------------------------------------------------------------
# make units: systemd units with their sandbox lines, and AppArmor profiles, into build/packaging.

PRIVILEGES := $(B)/tools/privileges
UNITS := $(patsubst packaging/systemd/%.in,build/packaging/systemd/%,$(wildcard packaging/systemd/*.service.in)) \
	$(patsubst packaging/%,build/packaging/%,$(wildcard packaging/systemd/*.socket))
PROFILES := $(addprefix build/packaging/apparmor/loopback-,netd fetchd wg-launch controld signd)

.PHONY: units
units: $(UNITS) $(PROFILES)

$(PRIVILEGES): $(call objects,$(wildcard privileges/generate/*.c)) $(LIB)
	@mkdir -p $(@D)
	@echo "LD $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS)

build/packaging/systemd/%.service: packaging/systemd/%.service.in $(PRIVILEGES)
	@mkdir -p $(@D)
	@$(PRIVILEGES) unit $< >$@

build/packaging/systemd/%.socket: packaging/systemd/%.socket
	@mkdir -p $(@D)
	@install -m 644 $< $@

build/packaging/apparmor/loopback-%: $(PRIVILEGES)
	@mkdir -p $(@D)
	@$(PRIVILEGES) apparmor $* >$@

# make audit-pages: docs/audit, which is committed; a test fails when it is not what this writes. AUDIT: where to, if not there.
AUDIT := docs/audit

.PHONY: audit-pages
audit-pages: $(PRIVILEGES)
	@mkdir -p $(AUDIT)
	@for name in netd fetchd wg-launch controld signd; do $(PRIVILEGES) page $$name privileges/pages/$$name.md >$(AUDIT)/$$name.md || exit; done
	@$(PRIVILEGES) index privileges/pages/README.md >$(AUDIT)/README.md
	@install -m 644 privileges/pages/threat-model.md $(AUDIT)/threat-model.md

# -- Packages -------------------------------------------------------------------------------------------------------------------
# make deb, make rpm: into build/packages; make deb VERSION=1.2.3 builds another version of the same tree.
# install: what both of them pack, in one list. Debian 12 looks for units in /lib, and has a folder of its own for zsh.

DESTDIR ?=
UNITDIR ?= /usr/lib/systemd/system
ZSHDIR ?= /usr/share/zsh/site-functions
D := $(DESTDIR)

.PHONY: install deb rpm
install: all units
	install -d $D/usr/bin $D/usr/libexec/loopback $D/etc/loopback $D$(UNITDIR) $D/usr/lib/sysusers.d $D/usr/lib/tmpfiles.d
	install -m 755 $(addprefix $(B)/bin/,loopback loopbackctl) $D/usr/bin
	install -m 755 $(addprefix $(B)/bin/,netd fetchd wg-launch controld signd) $D/usr/libexec/loopback
	install -m 644 packaging/etc/*.env $D/etc/loopback
	chmod 600 $D/etc/loopback/fetchd.env # a proxy's password may be in it
	install -m 644 $(UNITS) $D$(UNITDIR)
	install -d $D/etc/apparmor.d
	install -m 644 $(PROFILES) $D/etc/apparmor.d
	install -m 644 packaging/sysusers.d/*.conf $D/usr/lib/sysusers.d
	install -m 644 packaging/tmpfiles.d/*.conf $D/usr/lib/tmpfiles.d
	for page in docs/man/*.[1-8]; do install -D -m 644 "$$page" "$D/usr/share/man/man$${page##*.}/$${page##*/}" || exit; done
	for program in loopback loopbackctl; do \
		install -D -m 644 packaging/completions/$$program.bash $D/usr/share/bash-completion/completions/$$program && \
		install -D -m 644 packaging/completions/$$program.zsh $D$(ZSHDIR)/_$$program || exit; \
	done

deb:
	@packaging/mkdeb $(VERSION) build/packages

rpm:
	@packaging/mkrpm $(VERSION) build/packages

# -- Tests ----------------------------------------------------------------------------------------------------------------------
# tests/unit/test_PROGRAM_x.c is one test program; it links the library and PROGRAM's objects but main.o. test_ipc_x.c and test_doc_x.c
# link the library alone. tests/netns and tests/control are pytest; what they need in C stands beside them.

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
unit_program = $(word 2,$(subst _, ,$(1)))
unit_objects = $(filter-out %/main.o,$(call objects,$(SRC_$(call unit_program,$(1)))))

.SECONDEXPANSION:
$(B)/tests/unit/%: $(O)/tests/unit/%.o $$(call unit_objects,$$*) $(LIB)
	@mkdir -p $(@D)
	@echo "LD $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(call unit_program,$*)) $(AGENT_LIBS) -lcheck -lsubunit -lm -lrt -lpthread

.PHONY: unit-programs
unit-programs: $(UNIT_BIN)

# Small C programs that tests run: tests/tools/NAME.c links netd's objects as well, so that it can speak to it and forge for it.
TOOL_SRC := $(wildcard tests/tools/*.c) $(wildcard tests/netns/*.c)
TOOL_BIN := $(addprefix $(B)/tests/tools/,$(notdir $(TOOL_SRC:.c=)))
define tool
$(B)/tests/tools/$(notdir $(1:.c=)): $(call objects,$(1)) $(filter-out %/main.o,$(call objects,$(SRC_netd))) $(LIB)
	@mkdir -p $$(@D)
	@echo "LD $$@"
	@$$(CC) $$(LDFLAGS) -o $$@ $$^ $(LIBS_netd)
endef
$(foreach t,$(TOOL_SRC),$(eval $(call tool,$(t))))

# tests/bench/swarm: thousands of agents in one process
$(B)/tests/tools/swarm: $(call objects,$(wildcard tests/bench/swarm/*.c) fetchd/answer.c fetchd/sign_request.c) $(LIB)
	@mkdir -p $(@D)
	@echo "LD $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS) -lgnutls

.PHONY: tools
tools: $(TOOL_BIN) $(B)/tests/tools/swarm takeover

# tests/takeover: the stand-in for a daemon that somebody else has taken over. It links what enters a daemon's sandbox, and no daemon.
TAKEOVER_SRC := $(wildcard tests/takeover/*.c)
$(B)/tests/takeover/intruder: $(call objects,$(TAKEOVER_SRC)) $(LIB)
	@mkdir -p $(@D)
	@echo "LD $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS)

.PHONY: takeover take-over-page
takeover: $(B)/tests/takeover/intruder

# docs/audit/take-over.md, which is committed; a test fails when it is not what this writes.
take-over-page:
	@/usr/bin/python3 tests/takeover/attempts.py >docs/audit/take-over.md

# tests/fuzz/fuzz_PROGRAM_x.c: libFuzzer targets, VARIANT=fuzz only.
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/tests/fuzz/%)
$(B)/tests/fuzz/%: $(O)/tests/fuzz/%.o $$(call unit_objects,$$*) $(LIB)
	@mkdir -p $(@D)
	@echo "LD $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(call unit_program,$*)) $(AGENT_LIBS)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_BIN)

PYTEST := /usr/bin/python3 -m pytest -q -p no:cacheprovider

.PHONY: check check-unit check-netns check-control fuzz demo demo-up demo-down bench deps
check:
	@tests/check

check-unit:
	@tests/check unit

check-control:
	@tests/check control

check-netns:
	@tests/check netns

.PHONY: check-takeover check-packages check-operations
check-takeover:
	@tests/check takeover

check-packages:
	@tests/check packages

check-operations:
	@tests/check operations

# In virtual machines: packages under a real systemd, the kernel's WireGuard, AppArmor, reboot, upgrade; Debian 12 and 13
.PHONY: check-vm
check-vm:
	@tests/check vm

fuzz:
	@tests/check fuzz

demo: deps
	@$(MAKE) --no-print-directory all
	@/usr/bin/python3 tests/netns/demo.py run

demo-up: deps
	@$(MAKE) --no-print-directory all
	@/usr/bin/python3 tests/netns/demo.py up

demo-down:
	@/usr/bin/python3 tests/netns/demo.py down

bench: deps
	@$(MAKE) --no-print-directory all tools
	@/usr/bin/python3 tests/bench/bench.py

bench-%: deps
	@$(MAKE) --no-print-directory all tools
	@/usr/bin/python3 tests/bench/bench.py $*

deps:
	@tests/deps

-include $(shell find $(O) -name '*.d' 2>/dev/null)

.PHONY: clean
clean:
	rm -rf build
