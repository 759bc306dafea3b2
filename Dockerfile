# syntax=docker/dockerfile:1
# The wheels of torch on PyPI hold their CUDA libraries: one image serves machines with a GPU and without.
FROM python:3.11-slim-bookworm AS cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY pyproject.toml README.md ./
COPY coconut_attr coconut_attr
COPY db db
COPY flows flows
COPY dashboard dashboard
COPY .streamlit .streamlit
RUN pip install --editable . \
 && useradd --create-home --uid 1000 coconut \
 && mkdir /data && chown coconut /data
USER coconut
VOLUME /data
