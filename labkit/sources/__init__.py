"""The data sources of the inspection: records, traces, Prometheus, and logical decoding."""
