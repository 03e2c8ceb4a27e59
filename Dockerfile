# lawfit as a service: docker build -t lawfit . && docker run -d --name lawfit -p 127.0.0.1:8765:8765 -v lawfit:/srv lawfit
# It listens beyond the container, so it needs a token: docker exec lawfit lawfit token create me --scope admin
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir '/src[postgres,parquet]' && rm -rf /src && useradd --create-home lawfit && install -d -o lawfit /srv
USER lawfit
WORKDIR /srv
EXPOSE 8765
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/readyz', timeout=3)"]
CMD ["lawfit", "serve", "--host", "0.0.0.0", "--access-log"]
