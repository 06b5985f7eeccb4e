#!/usr/bin/env bash
# Build a container image of the service from the repository's bentofile.yaml.
#
#   SELFHEAL_MODEL  the packaged model that goes in; when unset the demo's, packaged where missing
#   BASE            image with Python to start from; python:3.11-slim where Python 3.11 builds
#   BACKEND         docker (the default) or podman
#   IMAGE           name and tag of what comes out; selfheal:1
#
# Arguments go on to `bentoml containerize`, for example local wheels, with podman:
#   examples/container/build.sh --opt volume=/opt/wheels:/opt/wheels:ro
set -euo pipefail
cd "$(dirname "$0")/../.."
export BENTOML_DO_NOT_TRACK=True SELFHEAL_BASE_IMAGE="${BASE:-}"
if [[ -z "${SELFHEAL_MODEL:-}" ]]; then
    bentoml models get selfheal-demo:latest >/dev/null 2>&1 || bento-selfheal package-demo
fi
tag=$(bentoml build --output tag)
bentoml containerize "${tag#__tag__:}" --backend "${BACKEND:-docker}" -t "${IMAGE:-selfheal:1}" "$@"
