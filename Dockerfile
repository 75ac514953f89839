# An image with the command `harness`; no container engine was at hand where this was written, so it is not built in CI.
#
#     docker build -t harness --build-arg PIP_EXTRA_INDEX_URL=URL .      # URL: PyTorch's index of CPU builds, a small image
#     docker run --rm -v "$PWD/data:/data" harness run markov -d ml-100k
#
# Results (/data/results) and caches (/data/home) stay in the mounted folder. Without the build argument pip installs
# torch with CUDA, which also needs `docker run --gpus all`.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HARNESS_HOME=/data/home

WORKDIR /opt/harness
COPY constraints.txt ./
RUN pip install -c constraints.txt torch && pip install --no-deps -r constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY harness harness
COPY baselines baselines
COPY eager eager
COPY results/published results/published
RUN pip install --no-deps .

WORKDIR /data
VOLUME /data
ENTRYPOINT ["harness"]
