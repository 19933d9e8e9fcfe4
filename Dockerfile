# syntax=docker/dockerfile:1
# One image, three commands: serve (the default), worker, migrate up. Built from uv.lock, run by nobody in particular.

ARG PYTHON=3.13-slim-bookworm

FROM ghcr.io/astral-sh/uv:0.9.11 AS uv

FROM python:${PYTHON} AS build
COPY --from=uv /uv /usr/local/bin/uv
# Bytecode is made here, once: the root of a running container cannot be written to.
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_MANAGED_PYTHON=1 \
    UV_PROJECT_ENVIRONMENT=/opt/growth
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --extra traces --no-install-project --no-editable
COPY README.md ./
COPY growth ./growth
RUN uv sync --locked --no-dev --extra traces --no-editable

FROM python:${PYTHON} AS run
LABEL org.opencontainers.image.title="growth" \
      org.opencontainers.image.description="Flash sales, group buying, referrals, check-ins and retention for a shop."
# A number, so that Kubernetes can tell that it is not root.
RUN groupadd --system --gid 10001 growth \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin growth
COPY --from=build --chown=root:root /opt/growth /opt/growth
ENV PATH=/opt/growth/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /opt/growth
# The API, and /metrics with /livez of api and worker alike.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"GROWTH_METRICS_PORT\", \"9090\")}/livez', timeout=2)"]
ENTRYPOINT ["growth"]
CMD ["serve"]
