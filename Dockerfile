# Two targets: `bot` has `troop serve` and `troop work` without torch; `engine` has all commands and serves a model, with
# `--build-arg TORCH=cpu` or `cuda`. Compose builds what its profile needs.
# For amd64 and arm64 (`--platform linux/arm64`): all locked wheels are there for both, for glibc 2.31 and later. A CPU
# build of torch for arm64 is at PyTorch's own index; PyPI's for arm64 Linux serves CUDA on machines such as GH200.
# BASE is any Debian-like image with Python 3.11 to 3.14; machines that can't pull make one with deploy/make-base-image.sh.
# The libraries are in a layer of their own, which an upgrade of Troop keeps.
ARG BASE=python:3.11-slim

# -- what each build begins with: the wheels stay out of the images, since every COPY is a layer
FROM ${BASE} AS sources
# Another index than PyPI.
ARG PIP_INDEX_URL
# Wheels in deploy/wheels/ go before an index's.
ENV PIP_FIND_LINKS=/src/deploy/wheels PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/install.py deploy/install.py
COPY deploy/locks/ deploy/locks/
COPY deploy/wheels/ deploy/wheels/

FROM ${BASE} AS runtime
ARG VERSION=dev
LABEL org.opencontainers.image.title="Troop" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/app/bin:/opt/troop/bin:$PATH
RUN command -v git >/dev/null || (apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*)
# Not root: the worker reaches Docker through its socket's group, which compose adds. A volume takes these owners over.
RUN useradd --create-home --uid 10000 troop \
    && mkdir -p /data/tmp /cache /secrets && chown -R troop /data /cache /secrets && chmod 700 /secrets
USER troop
WORKDIR /data
ENV TROOP_WORK_DIR=/data/work TROOP_SECRETS_DIR=/secrets XDG_CACHE_HOME=/cache \
    TROOP_MODEL_CACHE=/cache/models HF_HOME=/cache/huggingface TRITON_CACHE_DIR=/cache/triton
ENTRYPOINT ["troop"]

# -- bot
FROM sources AS libraries-bot
RUN python3 deploy/install.py --venv /opt/troop --beside /opt/app --compile bot

FROM libraries-bot AS build-engine
COPY pyproject.toml README.md LICENSE ./
COPY bot/ bot/
COPY engine/ engine/
COPY kernels/ kernels/
RUN python3 deploy/install.py --venv /opt/troop --beside /opt/app --project packed --compile

FROM build-engine AS build-bot
# Of the engine nothing but its name: no torch, no model.
RUN rm -rf /opt/app/engine/checkpoints

FROM runtime AS bot
COPY --from=libraries-bot /opt/troop /opt/troop
COPY --from=build-bot /opt/app /opt/app
EXPOSE 8000
CMD ["serve", "--host", "0.0.0.0"]

# -- engine: with PyTorch's CPU build, or --build-arg TORCH=cuda with PyPI's, gigabytes larger
FROM libraries-bot AS libraries-engine
ARG TORCH=cpu
# `cluster`: with Ray, for --replicas. `recurrent`: with kernels for layers with a state, on a GPU.
ARG LOCKS=
RUN python3 deploy/install.py --venv /opt/troop --torch "$TORCH" --compile run $LOCKS

FROM runtime AS engine
COPY --from=libraries-engine /opt/troop /opt/troop
COPY --from=build-engine /opt/app /opt/app
EXPOSE 8100
HEALTHCHECK --interval=5s --timeout=10s --start-period=30m --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8100/health', timeout=5)"]
CMD ["engine", "--host", "0.0.0.0", "--port", "8100"]

# Without a target.
FROM bot
