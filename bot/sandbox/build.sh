#!/bin/sh
# One layer of a build inside its container, as root with network, in a copy of the repository at /repo/tree, where
# tests run later: what is installed may refer to that path.
#
# Read from /opt/troop/build: `environment` (shell), `needs` (programs), `commands` (shell), `versions` (shell: what is
# told where these fail), `files` (those of the repository, NUL after each). Kept are the files that the commands made, in /opt/troop/base, and none of the
# repository: another commit brings its own. Exit code 97 and a line `troop: no PROGRAM`: a program is not in the image.
build=/opt/troop/build
. $build/environment
mkdir -p "$HOME" || exit 1
# Node and pip bring lists of authorities of their own. What the image trusts, as a company's own one, they trust too.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ -s $bundle ] || continue
    export NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-$bundle}"
    python3 -m pip config list 2>/dev/null | grep -q '\.cert=' || export PIP_CERT=$bundle
    break
done
while read -r program; do
    if [ "$program" = pip ]; then
        python3 -m pip --version >/dev/null 2>&1 && continue
    elif command -v "$program" >/dev/null 2>&1; then
        continue
    fi
    echo "troop: no $program"
    exit 97
done <$build/needs

rm -rf /repo/tree && mkdir -p /repo && mv /opt/troop/base /repo/tree && cd /repo/tree || exit 1
sh -e $build/commands </dev/null || { code=$? && cd / && . $build/versions; exit $code; }

cd /repo/tree || exit 1
# Each job copies what is here. Modules of Node that are too large for that are linked, one by one, since runners of
# tests write into the folder itself (`.cache`, `.vite`); links to the repository's own packages become links to the copy
# that is tested. While these are still here. Not where a commit brings modules.
tr '\0' '\n' <$build/files | grep -q '/node_modules/' || find . -name node_modules -type d -prune | while IFS= read -r folder; do
    [ "$(du -sk "$folder" | cut -f1)" -gt 60000 ] || continue
    find "$folder" -maxdepth 2 -type l ! -path '*/.bin/*' | while IFS= read -r link; do
        target=$(readlink -f "$link") || continue
        case $target in
        /repo/tree/*node_modules/*) ;;
        /repo/tree/*) ln -sfn "$target" "$link" ;;
        esac
    done
    linked=/opt/troop/linked/$folder
    rm -rf "$folder/.cache" "$folder"/.vite*
    mkdir -p "${linked%/*}" && mv "$folder" "$linked" && mkdir "$folder" || exit 1
    find "$linked" -mindepth 1 -maxdepth 1 -exec ln -s {} "$folder" \; || exit 1
done || exit 1
xargs -0 rm -f <$build/files || exit 1
find . -depth -type d -exec rmdir {} + 2>/dev/null # those that are empty now
rm -rf /tmp/* /var/tmp/* "$HOME/.cache/pip" "$HOME/.npm/_cacache" "$HOME/.npm/_logs" "$HOME/.cache/yarn" \
    "$HOME/.yarn/berry" "$HOME/.local/share/pnpm/store" "$HOME/.cache/pnpm" "$HOME/.cache/uv" "$HOME/.bun/install/cache" \
    /var/lib/apt/lists/* /var/cache/apt/archives/*.deb $build
cd / && mv /repo/tree /opt/troop/base || exit 1
# Tests run as another user. Not `chmod -R`: it would copy what earlier layers hold.
find /opt/troop \( -type d ! -perm -005 -o -type f ! -perm -004 \) -exec chmod a+rX {} +
