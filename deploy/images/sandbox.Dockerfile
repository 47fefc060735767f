# The image in which tests run, for repositories that need no more than Python, pytest and git:
#
#     docker build -t troop-sandbox -f deploy/images/sandbox.Dockerfile deploy/images
#     TROOP_SANDBOX_IMAGE=troop-sandbox troop serve
#
# Any other image serves as well, if it has sh, cp, rm, sleep, tar and timeout (coreutils and tar, or busybox). BASE may be
# one made by deploy/make-base-image.sh, where no registry can be reached.
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN command -v git >/dev/null \
    || { apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*; }
RUN PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --no-cache-dir pytest hypothesis
USER 10001:10001
