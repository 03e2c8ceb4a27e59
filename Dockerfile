# lawfit as a service: docker build -t lawfit . && docker run -p 8765:8765 -v lawfit:/srv lawfit
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir '/src[postgres,parquet]' && rm -rf /src && useradd --create-home lawfit && install -d -o lawfit /srv
USER lawfit
WORKDIR /srv
EXPOSE 8765
# The container's own network is the boundary here, so it may listen beyond loopback.
CMD ["lawfit", "serve", "--host", "0.0.0.0"]
