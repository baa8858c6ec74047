# splatdistill for CPUs. It is made of the wheel: `make wheels` first, with one wheel in dist.
#
#     docker build --tag splatdistill .
#     docker run --rm --volume "$PWD:/data" --user "$(id -u):$(id -g)" splatdistill train --prompt "a red armchair"
#     docker run --rm --volume "$PWD:/data" --publish 127.0.0.1:8017:8017 splatdistill
#
# The last one shows the page; its address with the token is printed. benchmarks/container_steps.py runs these steps
# where there is no Docker.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*

# The builds for CPUs; an empty index takes what pip finds.
ARG TORCH="torch>=2.11"
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/splatdistill \
    && /opt/splatdistill/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"

COPY dist/*.whl /opt/wheel/
RUN /opt/splatdistill/bin/pip install --no-cache-dir /opt/wheel/*.whl \
    && rm -r /opt/wheel \
    && useradd --system --uid 10001 --home-dir /data splatdistill \
    && install --directory --owner splatdistill --mode 0777 /data

ENV PATH=/opt/splatdistill/bin:$PATH HOME=/data PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
USER 10001
EXPOSE 8017
ENTRYPOINT ["splatdistill"]
CMD ["view", "--host", "0.0.0.0", "--no-browser"]
