# Builds datasets, with every engine. From the repository's root:
#
#   docker build -f docker/build.Dockerfile -t posecap-build .
#   docker run --rm --gpus all --shm-size=2g -v "$PWD/datasets:/posecap/datasets" -v posecap-cache:/cache \
#     posecap-build build --manifest manifests/demo.yaml
#
# The container runs as user id 1000: the mounted folder must be writable for it (or add --user "$(id -u)").
# Leave --gpus out for pipelines that declare no GPU, such as pipelines/default.py. Weights and videos are fetched at run
# time into the volume /cache; nothing is fetched while the image is built but packages. Nothing secret goes in: give
# credentials for object stores and cookies for YouTube at run time, as environment variables or mounted files.
#
# ultralytics is AGPL-3.0: whoever distributes an image with it, or lets others use it over a network, must comply with that
# license. An image without it:
#
#   docker build -f docker/build.Dockerfile --build-arg EXTRAS=build,mmpose,clip,youtube,caption -t posecap-build .
#
# Python 3.11 as Debian's image has it, not Ubuntu's 3.12, for which xtcocotools (needed by MMPose) has no wheel.
# torch from the registry brings its own CUDA libraries; the host needs a driver for CUDA 13 and the NVIDIA runtime.
FROM python:3.11.13-slim-bookworm

ARG TORCH=2.13.0
ARG TORCHVISION=0.28.0
ARG EXTRAS=build,ultralytics,mmpose,clip,youtube,caption
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Three libraries that OpenCV's wheel leaves to the system; ultralytics and MMPose import it.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
 && rm -rf /var/lib/apt/lists/*

# torch first and alone: its layer is several gigabytes and stays when the package changes.
RUN python -m venv /opt/posecap \
 && /opt/posecap/bin/pip install "torch==${TORCH}" "torchvision==${TORCHVISION}"
ENV PATH=/opt/posecap/bin:$PATH

# deno and yt-dlp's own extras run the scripts of YouTube's pages, where a pipeline says YtDlp(javascript="deno").
COPY pyproject.toml setup.py README.md LICENSE NOTICE /src/
COPY posecap /src/posecap
COPY tmor_train /src/tmor_train
COPY pipelines /src/pipelines
COPY manifests /src/manifests
RUN printf 'torch==%s\ntorchvision==%s\n' "${TORCH}" "${TORCHVISION}" > /tmp/torch.txt \
 && pip install -c /tmp/torch.txt "/src[${EXTRAS}]" "yt-dlp[default]" deno==2.9.8 \
 && rm -rf /src /tmp/torch.txt

RUN mkdir -p /posecap/datasets /cache && chown -R 1000:1000 /posecap /cache && chmod 1777 /posecap/datasets /cache
ENV POSECAP_CACHE=/cache HF_HOME=/cache/huggingface HOME=/tmp
WORKDIR /posecap
COPY --chown=1000:1000 pipelines pipelines
COPY --chown=1000:1000 manifests manifests
USER 1000:1000
RUN posecap --help
VOLUME ["/posecap/datasets", "/cache"]
ENTRYPOINT ["posecap"]
CMD ["--help"]
