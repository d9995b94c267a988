# One image for every component of Pointsman: `docker run IMAGE router ...`, `docker run IMAGE engine ...`.
#
# It is built and run by the project's own tests, with bases made from Debian's packages in place of the two named here
# (e2e/cluster/images.py). Both have Debian 12's Python at /usr/bin/python3, so what one stage installs the other runs.
ARG BUILD_BASE=docker.io/library/debian:12-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
ARG BASE=gcr.io/distroless/python3-debian12:nonroot@sha256:7d1042ce588ab97019fe95c24ffca7bc5a82ccdac572511d5e09bda4435c89c5

FROM ${BUILD_BASE} AS dependencies
# A base that brings Python is taken as it is.
RUN command -v python3 > /dev/null || \
    (apt-get update && apt-get install --yes --no-install-recommends python3-venv)
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/pointsman
COPY requirements.lock ./
# Compiled here, because nothing can be written where it runs. Tests of dependencies are not what runs.
RUN /pip/bin/pip --python /opt/pointsman/bin/python install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: --requirement requirements.lock && \
    find /opt/pointsman -type d -name tests -prune -exec rm -rf {} +

FROM dependencies AS project
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY router router
COPY operator operator
COPY sim sim
COPY cli cli
# Beside the dependencies, not among them: a layer of its own, the only one that most changes touch.
RUN /pip/bin/pip --python /opt/pointsman/bin/python install --no-cache-dir --no-deps --target /app .

FROM ${BASE}
COPY --from=dependencies /opt/pointsman /opt/pointsman
COPY --from=project /app /app
# kopf asks for a user name, and the user may be any number.
ENV USER=pointsman PYTHONPATH=/app PYTHONUNBUFFERED=1 PATH=/app/bin:/opt/pointsman/bin:/usr/bin:/bin
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/app/bin/pointsman"]
