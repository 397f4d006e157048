-- The last revision of every output record in PostgreSQL 12 or newer.
--
-- A sink connector (connector.json) appends each record as it is to stream_app_inbox; a trigger moves it into
-- stream_app_records, where of an id the highest revision stays. Applying a record twice changes nothing, so a connector
-- that repeats itself after a failure does no harm. Views give typed columns to whoever asks.

CREATE TABLE stream_app_inbox (
    topic text NOT NULL,
    record_key text,
    record jsonb
);

CREATE TABLE stream_app_records (
    topic text NOT NULL,
    id text NOT NULL,
    revision bigint NOT NULL,
    retracted boolean NOT NULL,
    record jsonb NOT NULL,
    PRIMARY KEY (topic, id)
);

CREATE FUNCTION stream_app_keep_last() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.record IS NULL THEN
        DELETE FROM stream_app_records WHERE topic = NEW.topic AND id = NEW.record_key;
    ELSE
        INSERT INTO stream_app_records AS kept (topic, id, revision, retracted, record)
        VALUES (
            NEW.topic, NEW.record ->> 'id', (NEW.record ->> 'revision')::bigint,
            (NEW.record ->> 'retracted')::boolean, NEW.record
        )
        ON CONFLICT (topic, id) DO UPDATE
        SET revision = EXCLUDED.revision, retracted = EXCLUDED.retracted, record = EXCLUDED.record
        WHERE EXCLUDED.revision > kept.revision;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER keep_last BEFORE INSERT ON stream_app_inbox
FOR EACH ROW EXECUTE FUNCTION stream_app_keep_last();

CREATE VIEW sessions AS
SELECT
    id,
    record ->> 'client_id' AS client_id,
    (record ->> 'started_at')::timestamptz AS started_at,
    record ->> 'status' AS status,
    record ->> 'source' AS source,
    record ->> 'medium' AS medium,
    record ->> 'campaign' AS campaign,
    record ->> 'channel' AS channel,
    record -> 'attributed' ->> 'channel' AS attributed_channel,
    (record ->> 'page_views')::int AS page_views,
    (record ->> 'engaged')::boolean AS engaged
FROM stream_app_records
WHERE topic = 'attributed-sessions' AND NOT retracted;

CREATE VIEW conversions AS
SELECT
    id,
    record ->> 'client_id' AS client_id,
    record ->> 'goal' AS goal,
    record ->> 'order_id' AS order_id,
    (record ->> 'occurred_at')::timestamptz AS occurred_at,
    (record ->> 'value')::numeric AS value,
    (record ->> 'refunded_value')::numeric AS refunded_value,
    record ->> 'currency' AS currency,
    record ->> 'path' AS path
FROM stream_app_records
WHERE topic = 'attributed-conversions' AND NOT retracted;

-- One row for each model and credited touchpoint: sums of credit and value by model are those of the conversions.
CREATE VIEW credits AS
SELECT
    kept.id AS conversion_id,
    (kept.record ->> 'occurred_at')::timestamptz AS occurred_at,
    kept.record ->> 'goal' AS goal,
    kept.record ->> 'currency' AS currency,
    model.key AS model,
    share.value ->> 'source' AS source,
    share.value ->> 'medium' AS medium,
    share.value ->> 'campaign' AS campaign,
    share.value ->> 'channel' AS channel,
    (share.value ->> 'credit')::numeric AS credit,
    (share.value ->> 'value')::numeric AS value
FROM stream_app_records AS kept
CROSS JOIN LATERAL jsonb_each(kept.record -> 'credits') AS model
CROSS JOIN LATERAL jsonb_array_elements(model.value) AS share
WHERE kept.topic = 'attributed-conversions' AND NOT kept.retracted;

CREATE VIEW leads AS
SELECT
    id AS lead_id,
    record ->> 'status' AS status,
    record ->> 'qualification' AS qualification,
    (record ->> 'created_at')::timestamptz AS created_at,
    record ->> 'owner' AS owner,
    record ->> 'contact_id' AS contact_id,
    record -> 'attributed' ->> 'channel' AS channel,
    record -> 'attributed' ->> 'campaign' AS campaign,
    (record ->> 'revenue')::numeric AS revenue,
    record ->> 'currency' AS currency
FROM stream_app_records
WHERE topic = 'leads' AND NOT retracted;

CREATE VIEW counters AS
SELECT
    id,
    record ->> 'window' AS window_kind,
    (record ->> 'window_start')::timestamptz AS window_start,
    record ->> 'dimension' AS dimension,
    record -> 'keys' AS keys,
    record ->> 'currency' AS currency,
    (record -> 'counts' ->> 'sessions')::bigint AS sessions,
    (record -> 'counts' ->> 'conversions')::bigint AS conversions,
    (record -> 'counts' ->> 'leads')::bigint AS leads,
    (record -> 'sums' ->> 'value')::numeric AS value,
    (record -> 'sums' ->> 'revenue')::numeric AS revenue,
    (record -> 'sums' ->> 'cost')::numeric AS cost
FROM stream_app_records
WHERE topic = 'lead-counters' AND NOT retracted;
