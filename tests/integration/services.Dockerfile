# Redis and PostgreSQL for machines that can't pull their images.
ARG BASE
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && ln -sf /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
    && install -d -o postgres -m 700 /var/lib/postgresql/data \
    && install -d -o postgres /var/run/postgresql
COPY postgres.sh /usr/local/bin/postgres.sh
