#!/usr/bin/env bats

load ../lib/campaign

@test "suites: CPython's tests, fio, stress-ng, git and a compiler in a managed folder" {
    campaign suites
}
