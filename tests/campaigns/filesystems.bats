#!/usr/bin/env bats

load ../lib/campaign

@test "I1 I2 I3 I5 I7 filesystems: the behaviour tests on each; overlayfs: lower, upper, hard links, copy-up" {
    campaign filesystems
}
