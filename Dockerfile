# Two images: `serve` answers requests for every task of a mask store; `train`, the default, learns them, too.
#
#   docker build --target serve -t maskserve .
#   docker build --target train -t maskserve:train .
#   docker build --target serve -t maskserve:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#
# The encoder and the masks come from volumes: nothing is downloaded when a container starts. Packages, code and
# compiled kernels are layers of their own, so a release with the same packages is a few megabytes.
# deploy/image/build_and_try.sh builds both and tries them.
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim-bookworm

# The lists of packages alone, without times: neither a new version number in pyproject.toml nor a new checkout
# may install the packages anew.
FROM ${PYTHON_IMAGE} AS requirements
WORKDIR /lists
COPY deploy/image/requirements.py pyproject.toml constraints.txt ./
RUN python requirements.py pyproject.toml > package.txt \
    && python requirements.py pyproject.toml serve grpc tracing s3 > serve.txt \
    && python requirements.py pyproject.toml train > train.txt \
    && touch -d @0 *.txt

FROM ${PYTHON_IMAGE} AS system
RUN apt-get update && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log
RUN useradd --create-home --uid 10001 maskserve && install -d -o maskserve /base /masks /runs
# /tmp may be lost at any time: uploads on their way, kernels compiled here, what is loaded from a hub.
ENV PATH=/opt/maskserve/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/maskserve \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1 \
    OMP_WAIT_POLICY=passive \
    NUMBA_CACHE_DIR=/opt/kernels \
    HF_HOME=/tmp/huggingface \
    MASKSERVE_BASE=/base \
    MASKSERVE_STORE=/masks \
    MASKSERVE_HOST=0.0.0.0 \
    MASKSERVE_PORT=8000
WORKDIR /home/maskserve
VOLUME ["/base", "/masks"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['MASKSERVE_PORT']}/health/ready\")"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--"]
CMD ["maskserve", "serve"]
LABEL org.opencontainers.image.title="maskserve" \
    org.opencontainers.image.description="Multi-task inference server for encoder language models" \
    org.opencontainers.image.licenses="Apache-2.0"

# Bytecode is compiled here and not checked against times, which change when layers are copied: a read-only root
# has no place to compile it later. Some files of packages are not valid Python; nothing imports them.
FROM system AS serve-packages
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=requirements /lists/constraints.txt /lists/package.txt /lists/serve.txt /opt/lists/
RUN cd /opt/lists && python -m venv /opt/venv \
    && pip install --no-cache-dir --no-compile -c constraints.txt --extra-index-url "$TORCH_INDEX" \
        -r package.txt -r serve.txt \
    && (python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/venv || true)

# Kernels for the processor that builds the image. On another one they are compiled when the server starts.
FROM serve-packages AS kernels
COPY mask_store /opt/maskserve/mask_store
COPY masking /opt/maskserve/masking
RUN mkdir /opt/kernels && (python -c "from masking.kernels.self_check import self_check; print(*self_check(0))" || true)

FROM serve-packages AS code
COPY pyproject.toml README.md LICENSE /src/
COPY maskserve /src/maskserve
COPY mask_store /src/mask_store
COPY masking /src/masking
COPY training /src/training
COPY server /src/server
RUN pip install --no-cache-dir --no-deps --no-compile --target /opt/maskserve /src \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/maskserve

FROM ${PYTHON_IMAGE} AS sbom
COPY deploy/image/sbom.txt /opt/lists/
RUN python -m venv /opt/sbom && /opt/sbom/bin/pip install --no-cache-dir -r /opt/lists/sbom.txt

FROM code AS serve-sbom
COPY --from=sbom /opt/sbom /opt/sbom
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible -o /opt/maskserve.cdx.json /opt/venv/bin/python

FROM serve-packages AS serve
ENV MALLOC_ARENA_MAX=2
COPY --from=kernels /opt/kernels /opt/kernels
COPY --from=serve-sbom /opt/maskserve.cdx.json /usr/share/sbom/
COPY --from=code /opt/maskserve /opt/maskserve
USER 10001

FROM serve-packages AS train-packages
COPY --from=requirements /lists/train.txt /opt/lists/
RUN cd /opt/lists && pip install --no-cache-dir --no-compile -c constraints.txt -r train.txt \
    && (python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/venv || true)

FROM train-packages AS train-sbom
COPY --from=sbom /opt/sbom /opt/sbom
COPY --from=code /opt/maskserve /opt/maskserve
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible -o /opt/maskserve.cdx.json /opt/venv/bin/python

FROM train-packages AS train
COPY --from=kernels /opt/kernels /opt/kernels
COPY --from=train-sbom /opt/maskserve.cdx.json /usr/share/sbom/
COPY --from=code /opt/maskserve /opt/maskserve
USER 10001
