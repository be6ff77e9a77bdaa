#!/usr/bin/env bats

load ../lib/campaign

@test "I5 I7 errors: each system call of the library fails, in the programs of tests/programs" {
    campaign errors
}
