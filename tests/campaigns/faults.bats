#!/usr/bin/env bats

load ../lib/campaign

@test "I3 I5 I7 faults: each system call, each errno; full disks, a quota, RLIMIT_FSIZE" {
    campaign faults
}
