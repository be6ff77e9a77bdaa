#!/usr/bin/env bats

load ../lib/campaign

@test "I2 I4 I5 cluster: two clients of a GlusterFS volume, and the death of one" {
    campaign cluster
}
