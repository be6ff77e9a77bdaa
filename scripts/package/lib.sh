#!/bin/sh
# Sourced by `deb` and `dist`: the build that goes into a package, the same bytes each time it is
# made.
cd "$(dirname "$0")/../.." || exit 1
# shellcheck disable=SC2034 # deb and dist use it
version=$(sed -n 's/^VERSION = //p' Makefile)
cc=${CC:-cc}
machine=$($cc -dumpmachine)
machine=${machine%%-*}
# Every file in a package bears the time of the commit; a tarball without git, that of the Makefile.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Makefile)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

# build FOLDER LIBDIR [MAKE-ARGUMENT]...: installs into FOLDER, stripped; debug symbols go to
# FOLDER-debug.
build() {
    folder=$1
    libdir=$2
    shift 2
    rm -rf "$folder" "$folder-debug"
    # No path of the building machine stays in the files. The compiler finds its own headers, so one
    # map is enough.
    make --no-print-directory -s -j"$(nproc)" BUILD=build/package/"$machine" CC="$cc" LIBDIR="$libdir" \
        CFLAGS="-O2 -g -ffile-prefix-map=$PWD=." DESTDIR="$folder" "$@" install
    tools=$($cc -dumpmachine)-
    command -v "${tools}objcopy" >/dev/null 2>&1 || tools=
    mkdir -p "$folder-debug"
    chmod 644 "$folder$libdir/libatomshim.so"
    for file in "$folder$libdir/libatomshim.so" "$folder"/*/bin/atomshim "$folder"/usr/*/bin/atomshim "$folder/bin/atomshim"; do
        [ -f "$file" ] || continue
        base=${file##*/}
        "${tools}objcopy" --only-keep-debug "$file" "$folder-debug/$base.debug"
        "${tools}strip" --strip-unneeded --remove-section=.comment "$file"
        (cd "$folder-debug" && "${tools}objcopy" --add-gnu-debuglink="$base.debug" "$OLDPWD/$file")
    done
}

# pack NAME FOLDER FILE: a tarball in which names, owners and times do not depend on the machine.
pack() {
    tar -C "$2" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        --transform "s,^\.,$1," -cf - . | gzip -n -9 >"$3"
}
