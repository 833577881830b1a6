# The web UI in a container. docs/docker.md explains it.
#   docker build -t text-generation-webui .                         for the CPU
#   docker build -t text-generation-webui --build-arg GPU=cuda .    NVIDIA; needs the NVIDIA Container Toolkit to run
#   docker build -t text-generation-webui --build-arg GPU=vulkan .  AMD and Intel, through Mesa's driver
ARG GPU=cpu

FROM debian:bookworm-slim AS build
ARG GPU
# Where no prebuilt llama.cpp can be downloaded: --build-arg BUILD_PACKAGES=build-essential compiles it, for all
# processors with AVX2 instead of the one that builds the image.
ARG BUILD_PACKAGES=""
ARG CMAKE_ARGS=-DGGML_NATIVE=OFF
# A build for a GPU is tested here, where there is none; it loads only if the driver's library is there.
RUN case "$GPU" in \
        cuda) driver=libcuda1 && sed -i 's/^Components: main$/Components: main contrib non-free/' /etc/apt/sources.list.d/*.sources ;; \
        vulkan) driver=libvulkan1 ;; \
        cpu) driver= ;; \
        *) echo "GPU is cpu, cuda or vulkan" && exit 1 ;; \
    esac \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
        $driver $BUILD_PACKAGES \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# What decides about the packages comes first: a change of the program alone does not install them again.
COPY requirements*.txt one_click.py start_linux.sh ./
COPY installer installer
COPY loaders loaders
COPY modules modules
COPY errors errors
COPY server.py ./
RUN case "$GPU" in cpu) choice=N ;; cuda) choice=A ;; vulkan) choice=D ;; esac \
    && GPU_CHOICE=$choice LAUNCH_AFTER_INSTALL=no HOME=/tmp/home ./start_linux.sh \
    && rm -rf /tmp/home installer_files/tmp models/*.gguf
# An image for a GPU with llama.cpp for the processor would be no more than a slow surprise.
RUN case "$GPU" in cpu) built= ;; cuda) built=CUDA ;; vulkan) built=Vulkan ;; esac \
    && grep -q "\"llama\": \"$built" installer_files/state.json \
    || { echo "No llama.cpp for $GPU could be installed; the output above says why." && exit 1; }
COPY . .
# The container's user cannot write byte code beside the program, so each start would compile all of it again.
RUN installer_files/env/bin/python -m compileall -qq -f -j 0 --invalidation-mode unchecked-hash \
        -x '/(tests?|_testing)/' . || true

FROM debian:bookworm-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgomp1 ca-certificates \
    && rm -rf /var/lib/apt/lists/*

FROM base AS run-cpu
FROM base AS run-cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
FROM base AS run-vulkan
RUN apt-get update && apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers \
    && rm -rf /var/lib/apt/lists/*

FROM run-${GPU}
RUN useradd --uid 1000 --create-home webui && mkdir /data && chown webui /data
COPY --from=build /app /app
USER webui
WORKDIR /app
# Nothing is installed or changed in the image; everything that the user makes is in the volume.
ENV WEBUI_NEVER_INSTALL=yes HF_HOME=/data/cache/huggingface
VOLUME /data
EXPOSE 7860 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "docker/health.py"]
# start_linux.sh becomes server.py, so the signal reaches it.
ENTRYPOINT ["./start_linux.sh", "--user-data-dir", "/data", "--listen"]
