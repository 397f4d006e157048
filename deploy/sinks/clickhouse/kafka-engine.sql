-- In place of Kafka Connect: ClickHouse reads the topics itself, one raw record a row. The tables are those of schema.sql.

CREATE TABLE stream_app_topics
(
    record String
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'kafka:9092',
    kafka_topic_list = 'attributed-sessions,attributed-conversions,leads,lead-counters',
    kafka_group_name = 'clickhouse',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1;

CREATE MATERIALIZED VIEW stream_app_from_topics TO stream_app_inbox AS
SELECT
    _topic AS topic,
    record
FROM stream_app_topics;
