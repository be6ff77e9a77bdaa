#!/usr/bin/env bats

load ../lib/campaign

@test "I3 I4 I5 kill: SIGKILL, cgroup.kill, pid namespace; sized and plain; ext4, xfs, btrfs, tmpfs, overlayfs" {
    campaign kill
}
