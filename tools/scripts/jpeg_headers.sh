#!/bin/sh
# Installs the headers of libjpeg-turbo for building the native kernel, where this needs no password.
# Never fails: without the headers, the package decodes through simplejpeg.
printf '#include <stdio.h>\n#include <jpeglib.h>\n' | ${CC:-cc} -E - >/dev/null 2>&1 && exit 0
if command -v brew >/dev/null; then
    brew list jpeg-turbo >/dev/null 2>&1 || brew install --quiet jpeg-turbo
elif command -v apt-get >/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    $as_root apt-get install -y -qq libjpeg-dev >/dev/null 2>&1 ||
        { $as_root apt-get update -qq && $as_root apt-get install -y -qq libjpeg-dev; } >/dev/null 2>&1
elif command -v dnf >/dev/null && [ "$(id -u)" = 0 ]; then
    dnf install -y -q libjpeg-turbo-devel >/dev/null 2>&1
fi
exit 0
