#!/usr/bin/env bats
# The parts of the shim by themselves, without interposition: tests/unit/*.c.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$BATS_TEST_TMPDIR" || exit
}

unit() {
    "$ROOT/build/unit/$1" "${@:2}"
}

@test "configuration: every variable, every bad value" {
    unit config_test
}

@test "the settings file: whose is obeyed, and which lines" {
    unit settings_file_test
}

@test "seccomp filters: what 3,000 random ones do to a call, against the kernel" {
    unit seccomp_test
}

@test "patterns, against a reference matcher too" {
    unit pattern_test
}

@test "files that the C library reads: every name in the C libraries of this machine is in the table or excused" {
    unit libc_files_test
}

@test "programs: #! lines, PATH, ELF files, secure-execution mode" {
    unit program_test
}

@test "functions of an object in memory, by its GNU hash table" {
    unit elf_test
}

@test "the coarse clock, with and without the kernel's object" {
    unit clock_test
}

@test "the text of /proc: numbers, fields, lines, mappings" {
    unit proc_test
}

@test "canonical paths without /proc, against realpath()" {
    unit path_test
}

@test "patterns through symbolic links" {
    unit resolve_test
}

@test "log lines" {
    unit log_test
}

@test "the memory that the system and its cgroup have left" {
    unit memory_test
}

@test "mappings of this process and of another one" {
    unit mapping_test
}

@test "processes: how they end, who holds a memory" {
    unit process_test
}

@test "I2 openers wait for the guardians of their file, of root and of their own user" {
    unit rendezvous_test
}

@test "image headers and footers" {
    unit image_test
}

@test "CRC-32C: published values, instruction against portable code" {
    unit crc32c_test
}

@test "I1 I2 I5 store: commits, hostile files, locks, lapped readers" {
    unit store_test
}

@test "I2 I5 I6 store: the note of a first commit cuts off zeros of its own, and nobody else's" {
    unit note_test
}

@test "I2 I5 store: limits of sizes and numbers, others that come in between, odd damage" {
    unit store_rare_test
}

@test "I1 what this process has committed is read again only if the file has changed" {
    unit known_test
}

@test "I2 records of plain files: encoded and decoded, and what a commit may leave of the bytes" {
    unit record_test
}

@test "I2 store: an image of over 2 GiB" {
    run unit store_test huge
    [ "$status" -ne 77 ] || skip "$output"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "I3 I4 I5 store: a fault and a kill at every system call, from every state, both formats" {
    unit store_fault_test
}

@test "I2 I5 store: hostile files by name, a file that changes under its reader" {
    unit hostile_test
}

@test "I1 I2 I4 I5 store: every prefix of every commit, power cuts, payloads that look like images, controls" {
    unit store_crash_test
}

@test "I2 I5 store: every prefix of every way back to plain and of undo, power cuts, controls" {
    unit store_export_test
}

@test "I2 I4 I5 store: failing calls, then a kill, then a power cut, on a disk that loses what it could not write" {
    unit store_disk_fault_test
}

@test "I2 I3 sessions: threads open, write and close at once" {
    unit session_test
}

@test "the format's model on a disk that keeps any subset of sectors: 0 violations, controls find some" {
    python3 "$ROOT/tests/model/format_model.py" 3000
}

@test "I2 I4 I5 a model of the plain format finds nothing, and its controls find what was left out" {
    python3 "$ROOT/tests/model/plain_model.py" 3000
}
