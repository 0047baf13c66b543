# What `make train` installs, in /opt/venv, for a CPU; for a GPU --build-arg TORCH=auto, or cu130 and the like.
#   docker build -t textrnn .
#   docker run --rm --init -v textrnn-cache:/cache -v "$PWD/runs:/textrnn/runs" textrnn python train.py experiment=first_run
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev git make \
    && rm -rf /var/lib/apt/lists/*
ENV VENV=/opt/venv PATH=/opt/venv/bin:$PATH XDG_CACHE_HOME=/cache
WORKDIR /textrnn
COPY . .
ARG TORCH=cpu
RUN python -m venv $VENV \
    && pip install --no-cache-dir uv \
    && uv pip install -p $VENV --no-cache --torch-backend=$TORCH -c constraints.txt -e ".[dev]" \
    && touch $VENV/.installed
VOLUME ["/cache", "/textrnn/runs"]
CMD ["python", "train.py", "--help"]
