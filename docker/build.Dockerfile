# Builds datasets. From the repository's root:
#
#   docker build -f docker/build.Dockerfile -t posecap-build .
#   docker run --rm --gpus all --shm-size=2g -v "$PWD/datasets:/posecap/datasets" -v posecap-cache:/cache \
#     posecap-build build --manifest manifests/demo.yaml
#
# The container's user has number 1000: the mounted folder must be writable for it (or add --user "$(id -u)").
# Leave --gpus out for pipelines that declare no GPU, such as pipelines/demo.py. torch brings its own CUDA
# libraries, so the base image holds only what the driver needs. Nothing secret goes in: give credentials for object
# stores at run time, as environment variables or mounted files.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

ARG TORCH=2.13.0
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

# torch first and alone: its layer is several gigabytes and stays when the package changes.
RUN python3 -m venv /opt/posecap && /opt/posecap/bin/pip install "torch==${TORCH}"
ENV PATH=/opt/posecap/bin:$PATH

COPY pyproject.toml README.md LICENSE NOTICE /src/
COPY posecap /src/posecap
RUN echo "torch==${TORCH}" > /tmp/torch.txt && pip install -c /tmp/torch.txt "/src[build]" && rm -rf /src /tmp/torch.txt

# Ubuntu's image already has a user with number 1000.
RUN mkdir -p /posecap/datasets /cache && chown -R 1000:1000 /posecap /cache && chmod 1777 /posecap/datasets /cache
ENV POSECAP_CACHE=/cache HOME=/tmp
WORKDIR /posecap
COPY --chown=1000:1000 pipelines pipelines
COPY --chown=1000:1000 manifests manifests
USER 1000:1000
VOLUME ["/posecap/datasets", "/cache"]
ENTRYPOINT ["posecap"]
CMD ["--help"]
