#!/usr/bin/env bats

load ../lib/campaign

@test "I2 I4 history: readers, writers, appenders and counters at once, forks and execs; real-time order" {
    campaign history
}
