# The image of Kafka Connect for the chart's kafka.mode strimzi: Strimzi's image with Debezium's connector. Versions and
# checksum are those of lab-stack/versions.toml. Not built here: no image registry was reachable during development.
#   docker build -f deploy/connect.Dockerfile -t saga-lab-connect:0.1.0 deploy
FROM docker.io/library/maven:3.9-eclipse-temurin-21 AS debezium
ARG ARTIFACT=io.debezium:debezium-connector-postgres:3.7.0.Final:tar.gz:plugin
ARG SHA256=660673cbabd2f269da21409208ebd0f0d9977bd92e824fc9daa272f240e88e51
RUN mvn --batch-mode --quiet dependency:copy "-Dartifact=$ARTIFACT" -DoutputDirectory=/download \
    && echo "$SHA256  $(ls /download/*.tar.gz)" | sha256sum --check \
    && mkdir /plugins && tar -xzf /download/*.tar.gz -C /plugins

FROM quay.io/strimzi/kafka:1.2.0-kafka-4.3.1
COPY --from=debezium /plugins /opt/kafka/plugins
USER 1001
