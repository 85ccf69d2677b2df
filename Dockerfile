# CPU:    docker build -t heretic .
# NVIDIA: docker build -t heretic:cuda --build-arg TORCH_INDEX= .
# Studies and exports are written to /work, downloads and measurements to /cache.

# Any image with Python 3.11 or newer, or one of Debian or Ubuntu that has it as a package (nvidia/cuda:...-ubuntu24.04).
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# Index of the build of torch; empty takes the default one, which brings CUDA's libraries.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras that are installed.
ARG EXTRAS=quantization,report

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The version of Python is the base's choice.
# hadolint ignore=DL3008
RUN if ! command -v python3 > /dev/null; then \
      apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; \
    fi

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch by itself: it changes less often than the program, and so this layer is kept.
# hadolint ignore=DL3013
RUN python3 -m venv /opt/venv && \
    /opt/venv/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

WORKDIR /opt/source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
RUN /opt/venv/bin/pip install ".[${EXTRAS}]"

RUN (useradd --create-home --uid 1000 heretic || true) && \
    mkdir -p /cache /work && chmod 1777 /cache /work
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache HOME=/cache
USER 1000
VOLUME ["/cache"]
WORKDIR /work
ENTRYPOINT ["heretic"]
CMD ["--help"]
