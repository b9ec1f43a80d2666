# Serves every task of a mask store over one encoder; learns new masks with the same image.
#
#   docker build -t maskserve .
#   docker build -t maskserve:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#
# The encoder and the masks come from volumes: nothing is downloaded when a container starts.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/venv
# Dependencies first, so that a change of the code does not install them anew.
COPY constraints.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" torch transformers
COPY pyproject.toml README.md LICENSE ./
COPY maskserve maskserve
COPY mask_store mask_store
COPY masking masking
COPY training training
COPY server server
RUN /opt/venv/bin/pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" ".[serve,train,grpc,tracing,s3]"

FROM python:${PYTHON_VERSION}-slim
RUN useradd --create-home --uid 10001 maskserve && install -d -o maskserve /base /masks /runs
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    MASKSERVE_BASE=/base \
    MASKSERVE_STORE=/masks \
    MASKSERVE_HOST=0.0.0.0 \
    MASKSERVE_PORT=8000
USER 10001
WORKDIR /home/maskserve
VOLUME ["/base", "/masks"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['MASKSERVE_PORT']}/health/ready\")"]
STOPSIGNAL SIGTERM
CMD ["maskserve", "serve"]
