#!/usr/bin/env bats

load ../lib/campaign

@test "I1 I2 I4 I5 fuzz: hostile files, the protocol in any order, patterns, configuration" {
    campaign fuzz
}
