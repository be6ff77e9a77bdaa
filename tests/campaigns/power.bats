#!/usr/bin/env bats

load ../lib/campaign

@test "I1 I3 I4 I5 power: crash images of ext4, xfs, btrfs from a recording of what reached the disk" {
    campaign power
}
