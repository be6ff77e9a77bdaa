#!/usr/bin/env bats

load ../lib/campaign

@test "I3 I7 the command: each of its system calls fails; an error status and a line, and no content is lost" {
    campaign command
}
