# Two stages: what installs is not what runs. Build:  docker build -t cds-hooks .
# Pin the base image by its digest in your own build; a tag moves.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/cds-hooks
ENV PATH=/opt/cds-hooks/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/postgresql.txt requirements/
RUN pip install --require-hashes -r requirements/postgresql.txt
COPY pyproject.toml README.md LICENSE ./
COPY cds_hooks cds_hooks
COPY plans plans
COPY cards cards
RUN pip install --no-build-isolation --no-deps .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/cds-hooks --create-home cds-hooks
COPY --from=build /opt/cds-hooks /opt/cds-hooks
ENV PATH=/opt/cds-hooks/bin:$PATH PYTHONUNBUFFERED=1 CDS_HOOKS_DATA=/var/lib/cds-hooks
USER 10001
VOLUME /var/lib/cds-hooks
EXPOSE 8000
# Calls in flight are finished within 8 s of this; docker kills after 10.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["cds-hooks", "serve", "--host", "0.0.0.0", "--port", "8000", "--config", "/etc/cds-hooks/settings.toml"]
