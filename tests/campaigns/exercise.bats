#!/usr/bin/env bats

load ../lib/campaign

@test "exercise: the same random calls on a managed and an unmanaged file come to the same" {
    campaign exercise
}
