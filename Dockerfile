# The page in a container, on CPUs:  docker build -t malaria-cells . && docker run --rm -p 8501:8501 malaria-cells
# Commands, with a folder of images: docker run --rm -v "$PWD:/work" -w /work malaria-cells malaria-cells run --image images
FROM python:3.12-slim

WORKDIR /opt/malaria-cells
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE config.yaml ./
COPY locks locks
COPY configs configs
COPY pretrained pretrained
COPY malaria_cells malaria_cells
# As in the Makefile: every file by its hash, setuptools first. supervision's and imaug's OpenCV comes in two distributions that share their
# files; the one put in last stays, and the headless one needs no graphics libraries of the system.
RUN pip install --no-cache-dir --require-hashes -r locks/build.lock \
    && pip install --no-cache-dir --require-hashes --no-build-isolation -r locks/container.lock \
    && pip install --no-cache-dir --require-hashes --force-reinstall --no-deps -r locks/opencv.lock \
    && pip install --no-cache-dir --no-build-isolation --no-deps . \
    && rm -rf /opt/malaria-cells

RUN useradd --create-home cells
USER cells
WORKDIR /home/cells
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health')"
CMD ["malaria-cells", "page", "--address", "0.0.0.0", "--port", "8501"]
