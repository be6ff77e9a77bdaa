#!/usr/bin/env bats
# The CI size of every campaign; `make campaigns` runs the full ones. What each one proves stands in its head.

load ../lib/helpers

setup() {
    helpers_setup
}

campaign() { # NAME
    run "$ROOT/tests/campaigns/$1" ci
    # what was skipped, and the numbers, are worth seeing after a pass, too; comments of TAP
    printf '# %s\n' "${lines[@]}" >&3
    [ "$status" -ne 77 ] || skip "${lines[-1]}"
    [ "$status" -eq 0 ]
}

@test "I3 I4 I5 kill: SIGKILL, cgroup.kill, pid namespace; sized and plain; ext4, xfs, btrfs, tmpfs, overlayfs" {
    campaign kill
}

@test "I2 I4 history: readers, writers, appenders and counters at once, forks and execs; real-time order" {
    campaign history
}

@test "I1 I2 I4 I5 fuzz: hostile files, the protocol in any order, patterns, configuration" {
    campaign fuzz
}

@test "I1 I2 I3 I5 I7 filesystems: the behaviour tests on each; overlayfs: lower, upper, hard links, copy-up" {
    campaign filesystems
}

@test "I2 I4 I5 cluster: two clients of a GlusterFS volume, and the death of one" {
    campaign cluster
}

@test "I3 I5 I7 faults: each system call, each errno; full disks, a quota, RLIMIT_FSIZE" {
    campaign faults
}

@test "I1 I3 I4 I5 power: crash images of ext4, xfs, btrfs from a recording of what reached the disk" {
    campaign power
}

@test "I2 I3 plain: what readers see of plain commits; with a lock whole images" {
    campaign plain
}

@test "exercise: the same random calls on a managed and an unmanaged file come to the same" {
    campaign exercise
}

@test "suites: CPython's tests, fio, stress-ng, git and a compiler in a managed folder" {
    campaign suites
}
