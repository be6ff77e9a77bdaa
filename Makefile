# atomshim. This file writes to build/ only, except for `install` and `format`.

VERSION = 0.1.0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
MANDIR ?= $(PREFIX)/share/man

CC ?= cc
BUILD ?= build# a folder below it for another machine: make BUILD=build/aarch64 CC=aarch64-linux-gnu-gcc
CFLAGS ?= -O2 -g
# SHIM_CC compiles and links shim/, with SHIM_FLAGS: scripts/coverage and scripts/sanitize set them.
SHIM_CC ?= $(CC)
SHIM_FLAGS ?=
WARNINGS = -std=gnu17 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
CPPFLAGS_ALL = -D_GNU_SOURCE -U_FORTIFY_SOURCE -Ishim -DATOMSHIM_VERSION='"$(VERSION)"' -DATOMSHIM_LIBDIR='"$(LIBDIR)"' $(CPPFLAGS)

# The shim lives in other people's processes: no stack protector or fortified call, whose support
# functions not every libc has; TLS that needs no __tls_get_addr; no reliance on the host's libc
# beyond the golden import list.
PIC_FLAGS = -fPIC -fvisibility=hidden -fno-stack-protector -ftls-model=initial-exec -fno-plt -fno-builtin-malloc \
	-fno-delete-null-pointer-checks -Wno-nonnull-compare -Wno-tautological-pointer-compare -Wno-unknown-warning-option
# Each saves time at the start of every program: calls of our own exports need no look-up, two
# mappings take less time than four, and what every start writes to lies together, in front of .bss.large.
START_FLAGS = -Wl,-Bsymbolic-functions -Wl,-z,noseparate-code -Wl,--sort-section=name
SO_FLAGS = -shared -Wl,-soname,libatomshim.so -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--no-undefined \
	-Wl,--hash-style=both $(START_FLAGS)

# The folders of shim/, in the order in which they may include each other (scripts/layers). The
# library has all but the command and store/restamp, which only the command uses; the command needs
# no session; a unit test links the parts that it tests, and the folders below.
sources = $(patsubst shim/%.c,%,$(wildcard $(1:%=shim/%/*.c)))
ENGINE = $(call sources,os format store)
CORE = $(ENGINE) $(call sources,config program session guardian manage)
# Every start of a program runs code of these: they are linked side by side, so that it touches few
# pages.
START = interpose/init interpose/real interpose/filter os/elf os/log os/descriptor config/config config/pattern \
	config/pattern_index config/resolve program/target session/session session/adopt store/journal guardian/guardian
SHIM = $(START) $(filter-out $(START) store/restamp,$(CORE) $(call sources,interpose))
CLI = $(ENGINE) $(call sources,config program cli)

# the calls_*.c whose calls are made by syscall(2), too
BY_SYSCALL = close exit filesystem filter lock metadata open paths rename status sync
PROGRAMS = $(patsubst tests/programs/%.c,$(BUILD)/programs/%,$(wildcard tests/programs/*.c)) \
	$(patsubst tests/programs/%.cc,$(BUILD)/programs/%,$(wildcard tests/programs/*.cc)) \
	$(BY_SYSCALL:%=$(BUILD)/programs/by_syscall_%)
UNITS = $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*.c))
# power_disk needs libfuse3: its campaign builds it, where that is installed
CAMPAIGNS = $(patsubst tests/campaigns/%.c,$(BUILD)/campaigns/%,$(filter-out %/power_disk.c,$(wildcard tests/campaigns/*.c)))
MAN_PAGES = $(wildcard shim/man/*.[1-9])
C_FILES = $(wildcard shim/*/*.[ch] tests/*/*.[ch] tests/*/*.cc)

.PHONY: force all tested rootfs test check campaigns coverage lint sanitize format bench bench-check install uninstall deb dist clean help
.DELETE_ON_ERROR:
.SECONDARY:

# Builds the library and the command.
all: $(BUILD)/libatomshim.so $(BUILD)/atomshim

$(BUILD)/libatomshim.so: $(SHIM:%=$(BUILD)/objects/%.o) $(BUILD)/exports.map
	$(SHIM_CC) $(CFLAGS) $(SHIM_FLAGS) $(PIC_FLAGS) $(SO_FLAGS) -Wl,--version-script,$(BUILD)/exports.map $(LDFLAGS) -o $@ $(filter %.o,$^) -ldl

# The library whose system calls fail where the campaign `errors` or a test says so. The frame
# pointers tell the kernel who calls; a function that is inlined could not be named.
FAILING = -DATOMSHIM_FAILING_KERNEL -O1 -fno-inline -fno-omit-frame-pointer -fno-optimize-sibling-calls
$(BUILD)/failing/libatomshim.so: $(patsubst %,$(BUILD)/failing/%.o,$(filter-out os/scratch,$(SHIM)) failing_scratch failing_kernel) $(BUILD)/exports.map
	$(SHIM_CC) $(CFLAGS) $(SHIM_FLAGS) $(PIC_FLAGS) $(SO_FLAGS) -Wl,--version-script,$(BUILD)/exports.map $(LDFLAGS) -o $@ $(filter %.o,$^) -ldl

$(BUILD)/failing/%.o: shim/%.c
	@mkdir -p $(@D)
	$(SHIM_CC) $(CPPFLAGS_ALL) $(WARNINGS) $(CFLAGS) $(SHIM_FLAGS) $(PIC_FLAGS) $(FAILING) -MMD -MP -c -o $@ $<

$(BUILD)/failing/failing_%.o: tests/lib/failing_%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(WARNINGS) $(CFLAGS) $(PIC_FLAGS) $(FAILING) -MMD -MP -c -o $@ $<

$(BUILD)/atomshim: $(CLI:%=$(BUILD)/objects/%.o)
	$(SHIM_CC) $(CFLAGS) $(SHIM_FLAGS) -static $(LDFLAGS) -o $@ $^

# The command, whose memory ends where a test says so.
$(BUILD)/failing/atomshim: $(CLI:%=$(BUILD)/objects/%.o) $(BUILD)/failing/failing_memory.o
	$(SHIM_CC) $(CFLAGS) $(SHIM_FLAGS) -static $(LDFLAGS) -o $@ $^

force:

# Builds objects anew when a setting that is compiled in changes, as by `make install LIBDIR=...`
# after a `make` without.
$(BUILD)/settings: force
	@mkdir -p $(@D)
	@echo '$(VERSION) $(LIBDIR)' | cmp -s - $@ || echo '$(VERSION) $(LIBDIR)' >$@
$(addprefix $(BUILD)/objects/,interpose/init.o cli/preload.o cli/main.o cli/doctor.o): $(BUILD)/settings

# The command and the tests are linked from the library's own objects: each source is compiled once.
$(BUILD)/objects/%.o: shim/%.c
	@mkdir -p $(@D)
	$(SHIM_CC) $(CPPFLAGS_ALL) $(WARNINGS) $(CFLAGS) $(SHIM_FLAGS) $(PIC_FLAGS) -MMD -MP -c -o $@ $<

# calls.def is the one list of interposed names; the exports are made from it.
$(BUILD)/exports.names: shim/interpose/calls.def
	@mkdir -p $(@D)
	$(CC) -E -P -x c '-DCALL(result,name,parameters,fallback)=name' $< | grep -o '[A-Za-z_0-9][A-Za-z_0-9]*' | LC_ALL=C sort > $@

$(BUILD)/exports.map: $(BUILD)/exports.names
	{ echo '{ global:'; sed 's/$$/;/' $<; echo 'local: *; };'; } > $@

$(BUILD)/unit/%: tests/unit/%.c $(CORE:%=$(BUILD)/objects/%.o)
	@mkdir -p $(@D)
	$(SHIM_CC) $(CPPFLAGS_ALL) -Itests/unit $(WARNINGS) $(CFLAGS) $(SHIM_FLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(filter %.o,$^) -lpthread

$(BUILD)/campaigns/%: tests/campaigns/%.c $(ENGINE:%=$(BUILD)/objects/%.o)
	@mkdir -p $(@D)
	$(SHIM_CC) $(CPPFLAGS_ALL) $(WARNINGS) $(CFLAGS) $(SHIM_FLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(filter %.o,$^)

$(BUILD)/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $<

# An empty library shows what any preloaded library costs.
$(BUILD)/bench/empty.so:
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -x c /dev/null -o $@

$(BUILD)/bench/asking.so: tests/bench/asking.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -MMD -MP -shared -fPIC $(LDFLAGS) -o $@ $<

# The runner of the test programs (tests/lib/cases.bash).
$(BUILD)/cases $(BUILD)/with_faults: $(BUILD)/%: tests/lib/%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu17 -Wall -Wextra -Werror $(CFLAGS) -MMD -MP -o $@ $<

$(BUILD)/programs/%: tests/programs/%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu17 -Wall -Wextra -Werror $(CFLAGS) -MMD -MP -o $@ $< -lpthread

# The behaviour tests built for other C libraries: musl, and the ones that tests/lib/rootfs unpacks.
OLDER = -D_GNU_SOURCE -D_LARGEFILE64_SOURCE -std=gnu17 -O1 -include tests/programs/older.h
$(BUILD)/musl/%: tests/programs/%.c tests/programs/older.h tests/programs/expect.h
	@mkdir -p $(@D)
	musl-gcc $(OLDER) -idirafter /usr/include -idirafter /usr/include/$(shell $(CC) -print-multiarch) -o $@ $< -lpthread

$(BUILD)/glibc-%: $(wildcard tests/programs/*.c) tests/programs/older.h tests/programs/expect.h
	@mkdir -p $(@D)
	$(CC) $(OLDER) --sysroot=$(SDK) -B$(SDK)/usr/lib/x86_64-linux-gnu -L$(SDK)/usr/lib/x86_64-linux-gnu -L$(SDK)/lib/x86_64-linux-gnu \
		-Wl,--dynamic-linker=$(SDK)/lib64/ld-linux-x86-64.so.2 -Wl,--disable-new-dtags,-rpath,$(SDK)/lib/x86_64-linux-gnu:$(SDK)/usr/lib/x86_64-linux-gnu \
		-o $@ tests/programs/$(@F).c -l:libpthread.so.0 -l:libdl.so.2
SDK = $(CURDIR)/build/rootfs/$(patsubst $(BUILD)/glibc-%/,%,$(dir $@))-sdk

# programs that cannot load the shim
$(BUILD)/programs/static_%: tests/programs/static_%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu17 -Wall -Wextra -Werror $(CFLAGS) -static -MMD -MP -o $@ $<

$(BUILD)/programs/by_syscall_%: tests/programs/calls_%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu17 -Wall -Wextra -Werror $(CFLAGS) -MMD -MP -include tests/programs/by_syscall.h -o $@ $< -lpthread

$(BUILD)/programs/%: tests/programs/%.cc
	@mkdir -p $(@D)
	$(CXX) -Wall -Wextra -Werror $(CFLAGS) -MMD -MP -o $@ $<

# The programs that tests execute. The root file systems of the container tests need the network
# once, and stay in build/rootfs; where one cannot be made, build/rootfs/KIND.reason says why, and
# its tests skip.
TESTED = all $(BUILD)/failing/libatomshim.so $(BUILD)/failing/atomshim $(PROGRAMS) $(UNITS) $(CAMPAIGNS) $(BUILD)/cases $(BUILD)/with_faults $(BUILD)/bench/steps $(BUILD)/bench/empty.so
ROOTS = busybox musl trixie bookworm bullseye trixie-sdk bullseye-sdk scratch
# three jobs on two processors, as in scripts/run-tests: the root file systems wait for the network
JOBS = $(if $(findstring j,$(filter-out --%,$(MAKEFLAGS))),,-j$(shell echo $$((($$(nproc) * 3 + 1) / 2))))
# scripts/run-tests begins with the files that take longest, so that no processor waits for one at
# the end.
first = $(foreach name,$(1),$(filter %/$(name).bats,$(2))) $(filter-out $(addprefix %/,$(1:%=%.bats)),$(2))
LONG = unit hard rename format trees programs rights strangers plain neighbours databases stress
LONG_CAMPAIGNS = power fuzz filesystems kill
TESTS = $(call first,$(LONG),$(sort $(wildcard tests/unit/*.bats tests/behaviour/*.bats)))
PORTABILITY_TESTS = $(sort $(wildcard tests/portability/*.bats))
CAMPAIGN_TESTS = $(call first,$(LONG_CAMPAIGNS),$(sort $(wildcard tests/campaigns/*.bats)))

# Builds everything that a test executes.
tested: $(TESTED)
# Makes the root file systems of the container tests in build/rootfs.
rootfs: $(ROOTS:%=rootfs-%)
rootfs-%: $(BUILD)/programs/contained $(BUILD)/programs/static_writer
	@mkdir -p $(BUILD)/rootfs
	@tests/lib/rootfs $* $(BUILD)/rootfs/$* >$(BUILD)/rootfs/$*.reason 2>&1 || [ $$? -eq 77 ]

# Runs the unit and behaviour tests: the daily ones, about 3 minutes on 2 cores. `make test` has
# those under other C libraries, machines, containers and package formats, too.
check:
	@scripts/bootstrap check
	@$(MAKE) --no-print-directory $(JOBS) rootfs-trixie-sdk tested
	@scripts/run-tests $(TESTS)

# Runs every test once, the campaigns in a small size: about 8 minutes, the first time 9.
test:
	@scripts/bootstrap test
	@$(MAKE) --no-print-directory $(JOBS) rootfs tested
	@scripts/run-tests $(CAMPAIGN_TESTS) $(PORTABILITY_TESTS) $(TESTS)

# Runs the campaigns in their full size, two at a time: about an hour.
campaigns:
	@scripts/bootstrap test
	@$(MAKE) --no-print-directory $(JOBS) tested
	scripts/campaigns full

# Runs the tests, of the campaigns only faults, errors and command, on an instrumented build, and
# writes what they reach of shim/ to build/coverage.
coverage:
	@scripts/bootstrap coverage
	@$(MAKE) --no-print-directory $(JOBS) rootfs
	@scripts/coverage tests/campaigns/faults.bats tests/campaigns/errors.bats tests/campaigns/command.bats $(PORTABILITY_TESTS) $(TESTS)

# Checks layout, style, layers and common mistakes in C and shell.
lint:
	@scripts/bootstrap lint
	scripts/lint

# Runs the tests under the address, undefined-behaviour and thread sanitizers.
sanitize:
	@scripts/bootstrap sanitize
	scripts/sanitize

# Lays out the C files.
format:
	@scripts/bootstrap lint
	clang-format -i $(C_FILES)

# Measures the cost of a commit, beside its rivals.
bench:
	@scripts/bootstrap bench
	@$(MAKE) --no-print-directory all $(BUILD)/bench/server $(BUILD)/bench/steps $(BUILD)/bench/empty.so $(BUILD)/bench/asking.so
	scripts/bench $(if $(FULL),full)

# Counts system calls, which is exact on a busy machine, too. UPDATE=1 writes the table anew.
bench-check: all $(BUILD)/bench/steps $(BUILD)/bench/empty.so
	@scripts/bootstrap bench-check
	tests/bench/check.py $(BUILD) tests/bench/calls.txt $(if $(UPDATE),--update)

# The script and the manual name the library where it is installed.
NAME_LIBRARY = sed 's|/usr/local/lib/|$(LIBDIR)/|g'

# Puts the library, the command and the man pages in place.
# The .so goes there by rename: a copy over a mapped file would crash every process that has it.
install: all
	mkdir -p $(DESTDIR)$(LIBDIR) $(DESTDIR)$(BINDIR)
	cp $(BUILD)/libatomshim.so $(DESTDIR)$(LIBDIR)/.libatomshim.so.new
	chmod 755 $(DESTDIR)$(LIBDIR)/.libatomshim.so.new
	mv $(DESTDIR)$(LIBDIR)/.libatomshim.so.new $(DESTDIR)$(LIBDIR)/libatomshim.so
	cp $(BUILD)/atomshim $(DESTDIR)$(BINDIR)/.atomshim.new
	chmod 755 $(DESTDIR)$(BINDIR)/.atomshim.new
	mv $(DESTDIR)$(BINDIR)/.atomshim.new $(DESTDIR)$(BINDIR)/atomshim
	install -d $(DESTDIR)$(SBINDIR)
	$(NAME_LIBRARY) scripts/inject/atomshim-preload >$(DESTDIR)$(SBINDIR)/atomshim-preload
	chmod 755 $(DESTDIR)$(SBINDIR)/atomshim-preload
	for page in $(MAN_PAGES); do \
		folder=$(DESTDIR)$(MANDIR)/man$${page##*.} && install -d "$$folder" && \
		$(NAME_LIBRARY) $$page >"$$folder/$${page##*/}" && chmod 644 "$$folder/$${page##*/}" || exit; \
	done

# Removes the files that install put there.
uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/libatomshim.so $(DESTDIR)$(BINDIR)/atomshim $(DESTDIR)$(SBINDIR)/atomshim-preload
	for page in $(MAN_PAGES); do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; done

# Makes a Debian package, build/atomshim_VERSION_ARCHITECTURE.deb.
deb:
	@scripts/bootstrap package
	@scripts/package/deb

# Makes tarballs of the source and of the two files, with debug symbols apart, in build/dist. Also:
# make dist CC=aarch64-linux-gnu-gcc.
dist:
	@scripts/bootstrap package
	@scripts/package/dist

# Removes build/.
clean:
	rm -rf build

# Shows this list: each target with the first sentence of the comment above it.
help:
	@awk '/^# / { said = said substr($$0, 2); next } \
		said != "" && /^[a-z-]+:/ { sub(/[.] .*/, ".", said); printf "%-12s%s\n", substr($$1, 1, index($$1, ":") - 1), said } \
		{ said = "" }' Makefile

-include $(wildcard $(BUILD)/objects/*/*.d $(BUILD)/failing/*.d $(BUILD)/failing/*/*.d $(BUILD)/unit/*.d $(BUILD)/programs/*.d $(BUILD)/campaigns/*.d $(BUILD)/bench/*.d $(BUILD)/*.d)
