#!/bin/sh
# Makes a base image of Debian with Python, pip and git, for machines that can't pull one from a registry:
#
#     deploy/make-base-image.sh NAME
#
# It bootstraps the packages from the mirror that this machine's apt uses and imports them as image NAME. Root only.
# The archive is kept under var/ and used again; remove it to build anew. Does nothing where the image is there.
# Where SSL_CERT_FILE names a bundle of certificates, programs in the image trust that bundle too.
set -eu

name=${1:?usage: deploy/make-base-image.sh NAME}
suite=${SUITE:-bookworm}
packages=${PACKAGES:-python3,python3-pip,python3-venv,git,ca-certificates}
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${CACHE:-$root/var/base-image}
archive=$cache/$suite-$(echo "$packages ${SSL_CERT_FILE:-}" | cksum | cut -d' ' -f1).tar

if docker image inspect "$name" >/dev/null 2>&1; then
    echo "$name is there"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9  # a second caller waits, then finds the archive

if [ ! -f "$archive" ]; then
    [ "$(id -u)" = 0 ] || { echo "make-base-image: only root can bootstrap an image; run it with sudo" >&2; exit 1; }
    command -v debootstrap >/dev/null || { echo "make-base-image: debootstrap is missing; apt-get install debootstrap" >&2; exit 1; }
    mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 2>/dev/null | head -n 1)}
    mirror=${mirror:-http://deb.debian.org/debian}
    rootfs=$(mktemp -d)
    trap 'rm -rf "$rootfs"' EXIT
    debootstrap --variant=minbase --include="$packages" "$suite" "$rootfs" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/debootstrap.log" >&2
        echo "make-base-image: debootstrap failed; the whole log is $cache/debootstrap.log" >&2
        exit 1
    }
    if [ -n "${SSL_CERT_FILE:-}" ] && [ -f "$SSL_CERT_FILE" ]; then
        cat "$SSL_CERT_FILE" >>"$rootfs/etc/ssl/certs/ca-certificates.crt"
    fi
    # pip may write into the system's packages (nothing else lives in the image) and trusts what the system trusts.
    printf '[global]\nbreak-system-packages = true\nroot-user-action = ignore\ncert = /etc/ssl/certs/ca-certificates.crt\n' \
        >"$rootfs/etc/pip.conf"
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/doc/*
    tar -C "$rootfs" --numeric-owner -cf "$archive.part" .
    mv "$archive.part" "$archive"
fi
docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'CMD ["python3"]' "$archive" "$name" >/dev/null
echo "$name is made"
