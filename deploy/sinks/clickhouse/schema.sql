-- The last revision of every output record in ClickHouse 23.2 or newer.
-- Tombstones end nothing here: counters of expired windows stay; leave them out by window_start.
--
-- ReplacingMergeTree keeps of each id the row with the highest version and drops those that are retracted. Merges come
-- when they come; FINAL in the views makes every answer right at once. The connector of connector.json (the official
-- ClickHouse sink) writes into stream_app_inbox; a materialised view takes the id, revision and retraction out of it.
-- Without Kafka Connect: kafka-engine.sql.

CREATE TABLE stream_app_inbox
(
    topic LowCardinality(String),
    record Nullable(String)
)
ENGINE = Null;

CREATE TABLE stream_app_records
(
    topic LowCardinality(String),
    id String,
    revision UInt64,
    retracted UInt8,
    record String
)
ENGINE = ReplacingMergeTree(revision, retracted)
ORDER BY (topic, id);

CREATE MATERIALIZED VIEW stream_app_keep_last TO stream_app_records AS
SELECT
    topic,
    JSONExtractString(value, 'id') AS id,
    JSONExtractUInt(value, 'revision') AS revision,
    toUInt8(JSONExtractBool(value, 'retracted')) AS retracted,
    value AS record
FROM
(
    SELECT
        topic,
        assumeNotNull(record) AS value
    FROM stream_app_inbox
    WHERE record IS NOT NULL
);

CREATE VIEW sessions AS
SELECT
    id,
    JSONExtractString(record, 'client_id') AS client_id,
    parseDateTime64BestEffort(JSONExtractString(record, 'started_at'), 3, 'UTC') AS started_at,
    JSONExtractString(record, 'source') AS source,
    JSONExtractString(record, 'medium') AS medium,
    JSONExtractString(record, 'campaign') AS campaign,
    JSONExtractString(record, 'channel') AS channel,
    JSONExtractString(record, 'attributed', 'channel') AS attributed_channel,
    JSONExtractUInt(record, 'page_views') AS page_views,
    JSONExtractBool(record, 'engaged') AS engaged
FROM stream_app_records FINAL
WHERE topic = 'attributed-sessions' AND retracted = 0;

CREATE VIEW conversions AS
SELECT
    id,
    JSONExtractString(record, 'client_id') AS client_id,
    JSONExtractString(record, 'goal') AS goal,
    parseDateTime64BestEffort(JSONExtractString(record, 'occurred_at'), 3, 'UTC') AS occurred_at,
    toDecimal128OrNull(JSONExtractString(record, 'value'), 4) AS value,
    JSONExtractString(record, 'currency') AS currency,
    JSONExtractString(record, 'path') AS path
FROM stream_app_records FINAL
WHERE topic = 'attributed-conversions' AND retracted = 0;

-- One row for each model and credited touchpoint.
CREATE VIEW credits AS
SELECT
    conversion_id,
    model,
    JSONExtractString(share, 'channel') AS channel,
    JSONExtractString(share, 'source') AS source,
    JSONExtractString(share, 'campaign') AS campaign,
    toDecimal128OrNull(JSONExtractString(share, 'credit'), 12) AS credit,
    toDecimal128OrNull(JSONExtractString(share, 'value'), 4) AS value
FROM
(
    SELECT
        id AS conversion_id,
        tupleElement(entry, 1) AS model,
        tupleElement(entry, 2) AS shares
    FROM stream_app_records FINAL
    ARRAY JOIN JSONExtractKeysAndValuesRaw(record, 'credits') AS entry
    WHERE topic = 'attributed-conversions' AND retracted = 0
)
ARRAY JOIN JSONExtractArrayRaw(shares) AS share;

CREATE VIEW leads AS
SELECT
    id AS lead_id,
    JSONExtractString(record, 'status') AS status,
    JSONExtractString(record, 'owner') AS owner,
    JSONExtractString(record, 'attributed', 'campaign') AS campaign,
    toDecimal128OrNull(JSONExtractString(record, 'revenue'), 4) AS revenue
FROM stream_app_records FINAL
WHERE topic = 'leads' AND retracted = 0;

CREATE VIEW counters AS
SELECT
    id,
    JSONExtractString(record, 'window') AS window_kind,
    parseDateTime64BestEffortOrNull(JSONExtractString(record, 'window_start'), 3, 'UTC') AS window_start,
    JSONExtractString(record, 'dimension') AS dimension,
    JSONExtractRaw(record, 'keys') AS keys,
    JSONExtractString(record, 'currency') AS currency,
    JSONExtractUInt(record, 'counts', 'sessions') AS sessions,
    JSONExtractUInt(record, 'counts', 'conversions') AS conversions,
    JSONExtractUInt(record, 'counts', 'leads') AS leads,
    toDecimal128OrNull(JSONExtractString(record, 'sums', 'revenue'), 4) AS revenue,
    toDecimal128OrNull(JSONExtractString(record, 'sums', 'cost'), 4) AS cost
FROM stream_app_records FINAL
WHERE topic = 'lead-counters' AND retracted = 0;
