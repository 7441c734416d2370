# One NVIDIA GPU: docker build -t motif_lite . && docker run --gpus all motif_lite doctor   (docs/install.md)
# The full image, not the slim one: Triton needs a C compiler and Python.h when a run starts.
FROM python:3.12-bookworm
ENV HF_HOME=/data/huggingface MOTIF_LITE_CACHE=/data/cache PYTHONUNBUFFERED=1
WORKDIR /motif_lite
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
ENTRYPOINT ["python", "run.py"]
CMD ["--help"]
