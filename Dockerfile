# syntax=docker/dockerfile:1
# Two targets: `cpu` and `gpu`, which has torch's CUDA libraries too. See docker-compose.yml.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/venv/bin:$PATH
WORKDIR /app
RUN python -m venv /venv
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    print(*project['dependencies'], *extras['s3'], *extras['dask'], sep='\n')" > /requirements.txt

FROM build AS build-cpu
# The default torch wheels contain CUDA libraries; the user names an index of wheels without them.
ARG TORCH_CPU_INDEX=""
# hadolint ignore=DL3013
RUN if [ -n "$TORCH_CPU_INDEX" ]; then pip install --index-url "$TORCH_CPU_INDEX" torch torchvision; fi \
 && pip install --constraint constraints.txt --requirement /requirements.txt
COPY . .
RUN pip install --no-deps --editable .

FROM build AS build-gpu
RUN pip install --constraint constraints.txt --requirement /requirements.txt
COPY . .
RUN pip install --no-deps --editable .

FROM python:3.11.13-slim-bookworm AS runtime
ENV PYTHONUNBUFFERED=1 PATH=/venv/bin:$PATH
# pg_dump, pg_restore and psql, for `coconut-attr db backup`; Debian's release fixes their version to PostgreSQL 15.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 coconut \
 && install --directory --owner coconut /data
WORKDIR /app
VOLUME /data

FROM runtime AS gpu
COPY --from=build-gpu /venv /venv
COPY --from=build-gpu /app /app
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility COCONUT_ATTR_DEVICE=cuda
USER 1000

FROM runtime AS cpu
COPY --from=build-cpu /venv /venv
COPY --from=build-cpu /app /app
ENV COCONUT_ATTR_DEVICE=cpu
USER 1000
