#!/usr/bin/env bats
# Many at once, and SIGKILL at random instants. tests/campaigns has the same in larger sizes.

load helpers

setup() {
    helpers_setup
    file=$MANAGED/file
}

@test "I2 1 writer, 4 readers, 20,000 reads of images of 1 B to 1 MiB" {
    run -0 wrapped "$PROGRAMS/race" "$file" 1 4 20000
    echo "$output"
    [[ $output == '20000 reads of '*' images, 0 bad' ]]
}

@test "I2 4 writers at once: every read, and the result, is one of theirs" {
    run -0 wrapped "$PROGRAMS/race" "$file" 4 4 8000
    [[ $output == '8000 reads of '*' images, 0 bad' ]]
    run -0 atomshim verify "$file"
}

@test "I2 control: without the shim readers see mixtures" {
    run -1 "$PROGRAMS/race" "$file" 1 4 2000
    [[ $output != *' 0 bad' ]]
}

# campaign NAME ARG...: its last line says what it found.
kill_campaign() {
    run -0 "$ROOT/build/campaigns/kill" "$ROOT/build/libatomshim.so" "$file" "$@"
    echo "$output"
    [[ $output == *' 0 torn, 0 lost, '* ]]
}

@test "I4 I5 kill -9, 500 times at 64 KiB" {
    kill_campaign 500 65536
}

@test "I4 I5 kill -9, 500 times at 4 MiB" {
    kill_campaign 500 4194304
}

@test "I4 I5 kill -9 while the file is adopted, 200 times at 64 KiB and 50 times at 4 MiB" {
    kill_campaign 200 65536 first
    rm "$file"
    kill_campaign 50 4194304 first
}

@test "I5 control: without the shim a kill leaves torn files" {
    ATOMSHIM_DISABLE=1 run -1 "$ROOT/build/campaigns/kill" "$ROOT/build/libatomshim.so" "$file" 40 4194304
    [[ $output != *' 0 torn'* ]]
}
