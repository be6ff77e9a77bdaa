#!/usr/bin/env bats
# Many at once, and SIGKILL at random instants. tests/campaigns has the same in larger sizes.

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

# kill_campaign KILLS SIZE [OPTION]: its last line says what it found. It fails unless old and new images were found.
kill_campaign() {
    run "$ROOT/build/campaigns/kill" "$ROOT/build/libatomshim.so" "$file" "$@"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *' 0 torn, 0 lost, '* ]]
}

@test "I4 I5 kill -9, 500 times at 64 KiB" {
    kill_campaign 500 65536
}

@test "I4 I5 kill -9, 500 times at 4 MiB" {
    kill_campaign 500 4194304
}

@test "I4 I5 kill -9 while the file is adopted, 400 times at 64 KiB and 100 times at 4 MiB, and commits on top" {
    kill_campaign 400 65536 first
    rm "$file"
    kill_campaign 100 4194304 first
}

@test "I5 control: without the shim a kill leaves torn files" {
    ATOMSHIM_DISABLE=1 run -1 "$ROOT/build/campaigns/kill" "$ROOT/build/libatomshim.so" "$file" 40 4194304
    [[ $output != *' 0 torn'* ]]
}
