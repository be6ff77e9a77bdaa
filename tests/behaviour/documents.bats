#!/usr/bin/env bats
# The README and the man pages are well-formed and complete, and every name in them exists.

load ../lib/helpers

setup() {
    helpers_setup
    cd "$ROOT" || exit
}

READMES='README.md shim/README.md tests/README.md .github/CONTRIBUTING.md'

# Prints each text between backquotes, and the target of each link, on a line; $1 is the file
named() {
    sed '/^```/,/^```/d; /^    /d' "$1" | { grep -oE '`[^`]+`|\]\([^)]+\)' || :; } | sed 's/^`\(.*\)`$/\1/; s/^](\(.*\))$/\1/'
}

@test "mandoc finds nothing to say of the man pages" {
    command -v mandoc >/dev/null || skip 'no mandoc'
    # pages of other packages may be missing on this machine
    run -0 sh -c 'mandoc -T lint -W style shim/man/*.[1-9] 2>&1 | grep -v "referenced manual not found\|outdated mandoc.db" || :'
    assert_equal "$output" '' 'mandoc -T lint'
}

@test "man formats the man pages without a warning" {
    command -v man >/dev/null || skip 'no man'
    for page in shim/man/*.[1-9]; do
        run -0 --separate-stderr man --warnings -l "$page"
        assert_equal "$stderr" '' "$page"
        [ "${#lines[@]}" -gt 50 ]
    done
}

@test "each man page refers to pages of ours that exist, and is in the section of its name" {
    for page in shim/man/*.[1-9]; do
        grep -qix "^\.Dt $(basename "${page%.*}") ${page##*.}" "$page"
        while read -r _ name section _; do
            case $name in *atomshim*) [ -f "shim/man/$name.$section" ] || { echo "$page: $name($section)" >&2; return 1; } ;; esac
        done < <(grep '^\.Xr ' "$page")
    done
}

@test "every command, option and variable of the help texts is in the man pages" {
    pages=$(cat shim/man/atomshim.1 shim/man/atomshim-settings.7 | sed 's/Fl -\([a-z]\)/Fl --\1/g')
    help=$(atomshim --help)
    commands=$(grep -oE 'atomshim [a-z]+ ' <<<"$help" | cut -d' ' -f2 | sort -u)
    [ "$(wc -w <<<"$commands")" -ge 5 ]
    for command in $commands; do
        grep -qE "^\.Ss atomshim $command$" shim/man/atomshim.1 || { echo "$command" >&2; return 1; }
        help+=$(atomshim "$command" --help)
    done
    words=$(grep -oE -- '--[a-z][a-z-]+|ATOMSHIM_[A-Z_]+' <<<"$help" | sort -u)
    [ "$(wc -w <<<"$words")" -ge 15 ]
    for word in $words; do
        grep -qE -- "(^|[^a-zA-Z_-])$word([^a-zA-Z_-]|\$)" <<<"$pages" || { echo "$word" >&2; return 1; }
    done
}

@test "every variable that the shim accepts is in atomshim-settings(7)" {
    accepted=$(wrapped env ATOMSHIM_NONE=1 /bin/true 2>&1 | grep -oE '\b(ATOMSHIM)?_[A-Z_]+' | sed 's/^ATOMSHIM//; /^_NONE$/d' | sort -u)
    [ "$(wc -w <<<"$accepted")" -ge 9 ]
    for name in $accepted; do
        grep -q "^\.It Ev ATOMSHIM$name$" shim/man/atomshim-settings.7 || { echo "ATOMSHIM$name" >&2; return 1; }
    done
}

@test "the README is a page of at most 160 lines" {
    [ "$(wc -l <README.md)" -le 160 ]
}

@test "every path that the documents name exists" {
    count=0
    for document in $READMES; do
        while read -r name; do
            case $name in
            *://* | *' '* | /* | build/*) continue ;;
            shim/* | tests/* | scripts/* | .github/* | .ci/*) ;;
            *.md | *.c | *.h | *.def | *.bats | *.py | *.yaml | *.conf | *.fragment | *.txt) ;;
            *) continue ;;
            esac
            count=$((count + 1))
            compgen -G "$name" >/dev/null || compgen -G "$(dirname "$document")/$name" >/dev/null ||
                [ -n "$(find shim tests scripts .github -name "${name##*/}" -path "*$name" 2>/dev/null)" ] ||
                { echo "$document: $name" >&2; return 1; }
        done < <(named "$document")
    done
    [ "$count" -ge 30 ]
    while read -r _ name; do
        [ -e "$name" ] || { echo "man: $name" >&2; return 1; }
    done < <(grep -hoE '^\.Pa (shim|tests|scripts)/[^ ]+' shim/man/*.[1-9])
}

@test "every function that shim/README.md names is in shim/" {
    functions=$(named shim/README.md | grep -oE '^[a-z_0-9]+\(\)$' | tr -d '()' | sort -u)
    [ "$(wc -w <<<"$functions")" -ge 20 ]
    for function in $functions; do
        grep -rqE "\b$function\(" shim --include='*.[ch]' --include='*.def' || { echo "$function" >&2; return 1; }
    done
}

@test "make help shows every target that make knows by name" {
    shown=$(make -s help | cut -d' ' -f1)
    targets=$(sed -n 's/^\.PHONY: \(force \)*//p' Makefile)
    [ "$(wc -w <<<"$targets")" -ge 10 ]
    for target in $targets; do
        grep -qx -- "$target" <<<"$shown" || { echo "$target" >&2; return 1; }
    done
}

@test "make install puts the man pages in place, make uninstall leaves no file" {
    # another PREFIX would build the tests' own program anew, with another library folder in it
    make -s install DESTDIR="$BATS_TEST_TMPDIR/root"
    for page in shim/man/*.[1-9]; do
        cmp "$page" "$BATS_TEST_TMPDIR/root/usr/local/share/man/man${page##*.}/$(basename "$page")"
    done
    make -s uninstall DESTDIR="$BATS_TEST_TMPDIR/root"
    assert_equal "$(find "$BATS_TEST_TMPDIR/root" ! -type d)" '' 'left behind'
}
