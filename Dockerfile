# motionops with its trainers, built without a GPU or nvcc (the CPU operators). Written, and not tried: no Docker was at hand.
#
#   docker build -t motionops .
#   docker run --rm -it --shm-size 4g -v "$PWD/videos:/videos" -v "$PWD/runs:/work/runs" motionops \
#       motionops train fima --preset ucf101 --data /videos
#
# --shm-size: readers hand batches over in shared memory, of which Docker gives 64 MiB. With GPUs (--gpus all), install the
# +cu130 wheel of `make release` in place of the last RUN.
FROM python:3.12-slim

RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN pip install --no-cache-dir torch torchvision "setuptools>=77" ninja \
 && MOTIONOPS_CUDA=0 pip install --no-cache-dir --no-build-isolation "/src[train]" && rm -rf /src
RUN useradd --create-home learner && mkdir /work && chown learner /work
USER learner
WORKDIR /work
CMD ["motionops", "info"]
