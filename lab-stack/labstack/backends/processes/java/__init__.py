"""Java for Kafka and Connect: runtime, libraries, agents and class-data archives."""
