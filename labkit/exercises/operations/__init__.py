"""The exercises on gateway, metrics, traces, Debezium, load and the capstone."""
