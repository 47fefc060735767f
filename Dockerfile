# One image for every role: `troop serve`, `troop work`, `troop engine`.
# BASE is any Debian-like image with Python 3.11 to 3.13; machines that can't pull make one with deploy/make-base-image.sh.
ARG BASE=python:3.11-slim

# The wheels stay in this stage: every COPY is a layer, and a local build of torch has 200 MB.
FROM ${BASE} AS build
# No build sees a GPU, so `auto` means `cpu`; an image for GPUs says `cuda`. See deploy/README.md.
ARG TORCH=auto
# Another index than PyPI.
ARG PIP_INDEX_URL
# Wheels in deploy/wheels/ go before an index's.
ENV PIP_FIND_LINKS=/src/deploy/wheels PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/install.py deploy/install.py
COPY deploy/locks/ deploy/locks/
COPY deploy/wheels/ deploy/wheels/
RUN python3 deploy/install.py --venv /opt/troop --torch "${TORCH}" run
COPY pyproject.toml README.md LICENSE ./
COPY bot/ bot/
COPY engine/ engine/
COPY kernels/ kernels/
RUN python3 deploy/install.py --venv /opt/troop --project packed --compile

FROM ${BASE}
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/troop/bin:$PATH
RUN command -v git >/dev/null || (apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*)
COPY --from=build /opt/troop /opt/troop

# Not root: the worker reaches Docker through its socket's group, which compose adds.
RUN useradd --create-home --uid 10000 troop && mkdir -p /data && chown troop /data
USER troop
WORKDIR /data
ENV TROOP_WORK_DIR=/data/work
EXPOSE 8000 8100
ENTRYPOINT ["troop"]
CMD ["serve", "--host", "0.0.0.0"]
