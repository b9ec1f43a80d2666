#!/usr/bin/env bash
# Builds the images `serve` and `train` with buildah and tries them with podman as a hardened cluster runs them:
# read-only root, no capabilities, no new privileges, no known user, 1 GiB. Ends with 1 if anything is wrong.
#
#   deploy/image/build_and_try.sh
#   PYTHON_IMAGE=registry.example/python:3.12-slim RUNTIME=docker BUILDER="docker build" deploy/image/build_and_try.sh
#
# Variables, each with a default:
#   PYTHON_IMAGE   the image to begin with: Debian with Python 3.11 or 3.12
#   TORCH_INDEX    where torch comes from: .../whl/cpu, .../whl/cu130
#   TAG            name of the images; `train` gets the ending -train
#   ENCODER        folder of an encoder in the hub's format; without it one with random weights is made
#   BUILDER        what builds: buildah bud --layers --format docker
#   BUILD_OPTIONS  more options for it, such as mounts with the settings of a proxy
#   RUNTIME        what runs containers: podman
#   RUN_OPTIONS    more options for `run`
#   PORT           a free port of this machine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$(dirname "$here")")
export TAG=${TAG:-localhost/maskserve:try} RUNTIME=${RUNTIME:-podman} RUN_OPTIONS=${RUN_OPTIONS:-} PORT=${PORT:-18000}
builder=${BUILDER:-buildah bud --layers --format docker}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")
revision=$(git -C "$source" rev-parse HEAD 2>/dev/null || echo unknown)

build() { # TARGET TAG CONTEXT
    # shellcheck disable=SC2086 # options are words
    $builder ${PYTHON_IMAGE:+--build-arg PYTHON_IMAGE=$PYTHON_IMAGE} ${TORCH_INDEX:+--build-arg TORCH_INDEX=$TORCH_INDEX} \
        ${BUILD_OPTIONS:-} --label "org.opencontainers.image.version=$version" \
        --label "org.opencontainers.image.revision=$revision" --target "$1" -t "$2" "$3"
}

timed() { # NAME COMMAND...
    local name=$1 begun=$SECONDS
    shift
    "$@" > "$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
    printf '%-58s%s s\n' "$name" "$((SECONDS - begun))"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timed "build serve" build serve "$TAG" "$source"
timed "build train" build train "$TAG-train" "$source"

# The next release: another version number and a changed line of code.
next=$work/next
mkdir "$next"
(cd "$source" && cp -r Dockerfile .dockerignore constraints.txt pyproject.toml README.md LICENSE \
    maskserve mask_store masking training server deploy "$next")
sed -i "s/^version = .*/version = \"$version.post1\"/" "$next/pyproject.toml"
echo "# changed" >> "$next/server/errors.py"
timed "build serve again, with another version and changed code" build serve "$TAG-next" "$next"

exec python3 "$here/try_images.py"
