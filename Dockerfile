# The app alone, as a user without rights. The state directory may be lost: it is rebuilt from Kafka.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/stream-app
COPY requirements.lock requirements-build.lock ./
RUN /opt/stream-app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
RUN python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock
COPY pyproject.toml LICENSE README.md ./
COPY stream_app stream_app
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/stream-app/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --system --home-dir /var/lib/stream-app --create-home stream-app
COPY --from=build /opt/stream-app /opt/stream-app
COPY deploy/stream-app.toml /etc/stream-app/stream-app.toml
ENV PATH=/opt/stream-app/bin:$PATH PYTHONUNBUFFERED=1
USER stream-app
WORKDIR /var/lib/stream-app
EXPOSE 6066
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6066/health/live', timeout=4)"]
ENTRYPOINT ["stream-app"]
CMD ["worker", "--config", "/etc/stream-app/stream-app.toml"]
