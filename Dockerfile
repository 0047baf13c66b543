# What `make test` installs, in /opt/venv, for a CPU; for a GPU --build-arg TORCH=auto, or cu130 and the like.
#   docker build -t textrnn .
#   docker run --rm --init -v textrnn-cache:/cache -v "$PWD/runs:/textrnn/runs" textrnn python train.py experiment=first_run
# A server of a run:
#   docker build --target serve -t textrnn-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/first:/model:ro" textrnn-serve
FROM python:3.12-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev git make \
    && rm -rf /var/lib/apt/lists/*
ENV VENV=/opt/venv PATH=/opt/venv/bin:$PATH XDG_CACHE_HOME=/cache
WORKDIR /textrnn
COPY . .
RUN python -m venv $VENV && pip install --no-cache-dir uv

FROM base AS serve
ARG TORCH=cpu
RUN uv pip install -p $VENV --no-cache --torch-backend=$TORCH -c constraints.txt ".[serve,onnx]" \
    && useradd --system server && install -d -o server /cache
USER server
EXPOSE 8000
CMD ["textrnn", "serve", "/model", "--host", "0.0.0.0"]

FROM base
ARG TORCH=cpu
RUN uv pip install -p $VENV --no-cache --torch-backend=$TORCH -c constraints.txt -e ".[dev]" \
    && touch $VENV/.package $VENV/.installed
VOLUME ["/cache", "/textrnn/runs"]
CMD ["python", "train.py", "--help"]
