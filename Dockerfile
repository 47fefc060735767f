# One image for every role: `troop serve`, `troop work`, `troop engine`.
# BASE is any Debian-like image with Python 3.11 or newer; machines that can't pull make one with deploy/make-base-image.sh.
ARG BASE=python:3.11-slim
FROM ${BASE}

# Extra flags of pip, e.g. `--find-links /wheels` for a CPU build of torch that lies in deploy/wheels (see deploy/README.md).
ARG PIP_FLAGS=""
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/troop/bin:$PATH

RUN command -v git >/dev/null || (apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*)

WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY deploy/wheels/ /wheels/
RUN python3 -m venv /opt/troop && pip install --no-cache-dir ${PIP_FLAGS} --find-links /wheels --constraint constraints.txt torch
COPY bot/ bot/
COPY engine/ engine/
COPY kernels/ kernels/
RUN pip install --no-cache-dir ${PIP_FLAGS} --find-links /wheels --constraint constraints.txt . && rm -rf /wheels

# Not root: the worker reaches Docker through its socket's group, which compose adds.
RUN useradd --create-home --uid 10000 troop && mkdir -p /data && chown troop /data
USER troop
WORKDIR /data
ENV TROOP_WORK_DIR=/data/work
EXPOSE 8000 8100
ENTRYPOINT ["troop"]
CMD ["serve", "--host", "0.0.0.0"]
