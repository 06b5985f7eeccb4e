#!/usr/bin/env bash
# Run the image: nothing but the volume can be written, and no capability is left.
#
# It is published on this machine's 127.0.0.1 alone, so it asks for no tokens. Before you publish it further
# mount a file of them: -v /etc/selfheal:/tokens:ro -e SELFHEAL_TOKENS_FILE=/tokens/tokens.toml
#
#   BACKEND  docker (the default) or podman
#   IMAGE    selfheal:1
#   VOLUME   the volume with everything that must outlive the container; selfheal
#
# Arguments go on to `docker run`, for example: examples/container/run.sh -d -e SELFHEAL_WORKERS=1
set -euo pipefail
exec "${BACKEND:-docker}" run --name selfheal --read-only --tmpfs /tmp \
    --cap-drop ALL --security-opt no-new-privileges \
    -v "${VOLUME:-selfheal}:/state" -e BENTOML_HOME=/state -e BENTOML_DO_NOT_TRACK=True \
    -e SELFHEAL_OPEN_TO_ALL=true -p 127.0.0.1:3000:3000 "$@" "${IMAGE:-selfheal:1}"
