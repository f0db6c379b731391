#!/usr/bin/env bash
# Builds the image from this checkout. Two builds of a commit have the same layers.
#
#   deploy/image/build.sh [OPTION...]      options of the builder, as --build-arg BASE=... or --push
#
# IMAGE names it (contactstream:VERSION by default), BUILDER is the program: `docker buildx build`,
# or `podman build`, `buildah bud` and what takes their options. PUSH=true pushes it (buildx only).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The time of the commit stands for the time of everything in the layers.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
image=${IMAGE:-contactstream:$version}

if [[ -z ${BUILDER:-} ]]; then
  BUILDER="docker buildx build"
  ! command -v podman >/dev/null || BUILDER="podman build"
fi
read -ra builder <<<"$BUILDER"
options=(--file deploy/image/Dockerfile --build-arg "VERSION=$version")
options+=(--build-arg "REVISION=$revision" --build-arg "CREATED=$created")
case $BUILDER in
  docker*)
    options+=(--build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH")
    target=type=docker
    [[ ${PUSH:-} != true ]] || target=type=image,push=true
    options+=(--output "$target,name=$image,rewrite-timestamp=true")
    ;;
  *)
    options+=(--timestamp "$SOURCE_DATE_EPOCH" --ignorefile deploy/image/Dockerfile.dockerignore)
    options+=(--tag "$image")
    ;;
esac
"${builder[@]}" "${options[@]}" "$@" .
echo "$image"
