#!/bin/sh
# Builds libjpeg-turbo as a static library for the wheels: build_jpeg.sh PREFIX. Needs cmake, and nasm on x86-64.
set -eu
version=3.1.2
prefix=$1
work=$(mktemp -d)
if command -v dnf >/dev/null; then dnf install -y -q cmake nasm >/dev/null; fi
if command -v brew >/dev/null; then command -v cmake >/dev/null || brew install --quiet cmake; fi
curl -fsSL "https://github.com/libjpeg-turbo/libjpeg-turbo/releases/download/$version/libjpeg-turbo-$version.tar.gz" |
    tar -xz -C "$work"
cmake -S "$work/libjpeg-turbo-$version" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DENABLE_SHARED=OFF -DENABLE_STATIC=ON -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
    -DWITH_TURBOJPEG=OFF
cmake --build "$work/build" --parallel
cmake --install "$work/build"
