# For training: torch with CUDA, tmor_train, and posecap's reader of shards; no decoders and no detectors.
# From the repository's root:
#
#   docker build -f docker/train.Dockerfile -t posecap-train .
#   docker run --rm --gpus all --shm-size=8g -v "$PWD/datasets:/posecap/datasets:ro" -v "$PWD/runs:/posecap/runs" \
#     posecap-train tmor_train run stage1 --data datasets/demo
#
# The container runs as user id 1000: the mounted folder of runs must be writable for it (or add --user "$(id -u)").
# --shm-size is for NCCL and for DataLoader workers of other training code, which use shared memory.
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

COPY pyproject.toml setup.py README.md LICENSE NOTICE /src/
COPY posecap /src/posecap
COPY tmor_train /src/tmor_train
COPY pipelines /src/pipelines
COPY manifests /src/manifests
RUN echo "torch==${TORCH}" > /tmp/torch.txt && pip install -c /tmp/torch.txt "/src[train,faiss]" && rm -rf /src /tmp/torch.txt

RUN mkdir -p /posecap/runs && chown -R 1000:1000 /posecap && chmod 1777 /posecap/runs
ENV HOME=/tmp
WORKDIR /posecap
USER 1000:1000
CMD ["python"]
