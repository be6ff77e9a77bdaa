#!/usr/bin/env bats
# Many readers and writers at once. tests/campaigns/history has more of them, tests/campaigns/kill
# has SIGKILL at random instants.

load ../lib/helpers

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

@test "I2 I3 an image of more than 2 GiB, which no single write can carry" {
    local size=$(((2 << 30) + 4711)) available before
    available=$(($(stat -f -c '%a * %S' "$MANAGED")))
    [ "$available" -gt $((2 * size)) ] || skip "needs $((2 * size)) bytes of disk, and there are $available"
    available=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024))
    [ "$available" -gt $((2 * size)) ] || skip "needs $((2 * size)) bytes of memory, and there are $available"
    printf old >"$file"
    before=$(inode "$file")
    wrapped python3 -c 'import os, sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]) - 3)
f.write(b"end")
f.close()
f = open(sys.argv[1], "rb")
assert f.read(4) == b"old\0" and f.seek(-4, 2) == int(sys.argv[2]) - 4 and f.read() == b"\0end"' "$file" "$size"
    run -0 atomshim verify "$file"
    assert_equal "$output" "$file: good, sized, generation 1, $size bytes"
    assert_equal "$(inode "$file")" "$before"
    wrapped sh -c 'echo small >"$0"' "$file"
    assert_equal "$(payload "$file")" small
}

@test "I2 control: without the shim readers see mixtures" {
    run -1 "$PROGRAMS/race" "$file" 1 4 2000
    [[ $output != *' 0 bad' ]]
}
