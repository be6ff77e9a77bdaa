#!/usr/bin/env bats

load ../lib/campaign

@test "I2 I3 plain: what readers see of plain commits; with a lock whole images" {
    campaign plain
}
