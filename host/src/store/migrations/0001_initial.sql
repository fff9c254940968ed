-- The first schema. Raw tables are compact: names are numbers, times are microseconds since 1970, words are codes.
-- People read the views below; docs/database.md describes them, and a test compares the two.
-- Numbers of names are not declared as foreign keys: names are never deleted, and the check would cost a look-up a row.

-- Every recurring text once: consumers, event types, sources, schema versions, media types, component digests.
CREATE TABLE names (
  id   INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE
) STRICT;

-- One row: whose database this is and which host may write it.
CREATE TABLE host (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  database_id BLOB NOT NULL CHECK (length(database_id) = 16),
  epoch       INTEGER NOT NULL CHECK (epoch >= 0),
  boot_id     BLOB NOT NULL CHECK (length(boot_id) = 16),
  pid         INTEGER NOT NULL,
  started_at  INTEGER NOT NULL,
  clean       INTEGER NOT NULL CHECK (clean IN (0, 1))
) STRICT;

-- An id or correlation is a BLOB of 16 bytes if it is a UUID in its usual spelling, else TEXT.
-- correlation is NULL where it is the event's own id.
CREATE TABLE raw_events (
  seq          INTEGER PRIMARY KEY CHECK (seq > 0),
  id           ANY NOT NULL CHECK (typeof(id) = 'text' OR (typeof(id) = 'blob' AND length(id) = 16)),
  source       INTEGER NOT NULL,
  type         INTEGER NOT NULL,
  data_version INTEGER NOT NULL,
  timestamp    INTEGER NOT NULL,
  accepted_at  INTEGER NOT NULL,
  not_before   INTEGER,
  depth        INTEGER NOT NULL CHECK (depth >= 0),
  correlation  ANY,
  causation    ANY,
  subject      TEXT,
  key          TEXT,
  traceparent  TEXT,
  attributes   TEXT,
  hash         BLOB NOT NULL CHECK (length(hash) = 32),
  content_type INTEGER,
  data         BLOB,
  CHECK ((content_type IS NULL) = (data IS NULL))
) STRICT;
CREATE UNIQUE INDEX raw_events_by_id ON raw_events (id, source);
CREATE INDEX raw_events_by_type ON raw_events (type);
CREATE INDEX raw_events_by_correlation ON raw_events (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX raw_events_by_causation ON raw_events (causation) WHERE causation IS NOT NULL;

-- Events that are jobs, for whom, and how they are retried, as JSON; NULL: as the consumer says. priority: 0 low, 1 normal,
-- 2 high. A row stays for as long as the event or an outcome of it does.
CREATE TABLE raw_jobs (
  seq      INTEGER PRIMARY KEY CHECK (seq > 0),
  consumer INTEGER NOT NULL,
  priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 2),
  retry    TEXT
) STRICT;

-- Sequences that are no longer here, and the chain's hash at the end of each such range (NULL: not known).
CREATE TABLE raw_gaps (
  last_seq    INTEGER PRIMARY KEY,
  first_seq   INTEGER NOT NULL CHECK (first_seq > 0 AND first_seq <= last_seq),
  last_hash   BLOB CHECK (last_hash IS NULL OR length(last_hash) = 32),
  cause       TEXT NOT NULL CHECK (cause IN ('pruned', 'lost')),
  recorded_at INTEGER NOT NULL,
  CHECK (cause = 'lost' OR last_hash IS NOT NULL)
) STRICT;

-- Losses that an operator accepted, as they were accepted.
CREATE TABLE raw_losses (
  id          INTEGER PRIMARY KEY,
  first_seq   INTEGER NOT NULL,
  last_seq    INTEGER NOT NULL,
  detail      TEXT NOT NULL,
  recorded_at INTEGER NOT NULL
) STRICT;

-- One row a call of a handler. outcome: 0 done, 1 retry, 2 defer, 3 reject, 4 trapped, 5 timed-out, 6 out-of-fuel,
-- 7 out-of-memory, 8 over-limit, 9 refused, 10 interrupted; without a call: 11 duplicate, 12 expired, 13 crashed,
-- 14 withdrawn.
-- state: 0 succeeded, 1 pending, 2 dead, 3 cancelled. sum: of the other columns, so that a changed bit is found.
CREATE TABLE raw_outcomes (
  seq          INTEGER NOT NULL CHECK (seq > 0),
  consumer     INTEGER NOT NULL,
  round        INTEGER NOT NULL CHECK (round >= 0),
  call         INTEGER NOT NULL CHECK (call >= 1),
  attempt      INTEGER NOT NULL CHECK (attempt >= 1),
  outcome      INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 14),
  state        INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  started_at   INTEGER NOT NULL,
  duration_us  INTEGER NOT NULL CHECK (duration_us >= 0),
  fuel         INTEGER NOT NULL,
  memory_peak  INTEGER NOT NULL,
  published    INTEGER NOT NULL CHECK (published >= 0),
  generation   INTEGER NOT NULL,
  component    INTEGER NOT NULL,
  logs_dropped INTEGER NOT NULL DEFAULT 0 CHECK (logs_dropped >= 0),
  reason       TEXT,
  output_type  INTEGER,
  output       BLOB,
  logs         TEXT,
  sum          INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (seq, consumer, round, call),
  CHECK ((outcome IN (0, 11)) = (state = 0)),
  -- Not as a list: SQLite would make a table of it for each row.
  CHECK (state = 2 OR (outcome <> 3 AND outcome <> 9 AND outcome <> 12 AND outcome <> 13)),
  CHECK (outcome <> 2 OR state = 1),
  CHECK ((outcome = 14) = (state = 3)),
  CHECK ((output_type IS NULL) = (output IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_outcomes_not_done ON raw_outcomes (outcome, seq) WHERE outcome <> 0;

-- Deliveries that are stored because they must wait. key: what they are ordered by. blocked: they wait for the key, and
-- not for their due time. errand: another table says what they are for. priority: 0 low, 1 normal, 2 high.
-- sum: as that of an outcome, here and below.
CREATE TABLE raw_waiting (
  seq      INTEGER NOT NULL,
  consumer INTEGER NOT NULL,
  round    INTEGER NOT NULL CHECK (round >= 0),
  due_at   INTEGER NOT NULL,
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  calls    INTEGER NOT NULL CHECK (calls >= attempts),
  key      TEXT,
  blocked  INTEGER NOT NULL CHECK (blocked IN (0, 1)),
  errand   INTEGER NOT NULL DEFAULT 0 CHECK (errand IN (0, 1)),
  priority INTEGER NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2),
  sum      INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (seq, consumer, round),
  CHECK (blocked = 0 OR key IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_waiting_by_due ON raw_waiting (consumer, priority, due_at, seq, round) WHERE blocked = 0;
CREATE INDEX raw_waiting_by_key ON raw_waiting (consumer, key, blocked, seq, round) WHERE key IS NOT NULL;

CREATE TABLE raw_dead_letters (
  seq        INTEGER NOT NULL,
  consumer   INTEGER NOT NULL,
  round      INTEGER NOT NULL CHECK (round >= 0),
  cause      TEXT NOT NULL CHECK (cause IN ('rejected', 'refused', 'attempts-exhausted', 'expired', 'crashed')),
  outcome    INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 13 AND outcome <> 11),
  reason     TEXT,
  attempts   INTEGER NOT NULL,
  died_at    INTEGER NOT NULL,
  status     TEXT NOT NULL CHECK (status IN ('dead', 'redriven', 'discarded')),
  decided_at INTEGER,
  key        TEXT,
  sum        INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (seq, consumer, round),
  CHECK ((status = 'dead') = (decided_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_dead_letters_by_time ON raw_dead_letters (status, died_at);

-- Ordering keys that dead letters hold: a key is free when no row has it. Of an event, a later round's takes the place of those before.
CREATE TABLE raw_held_keys (
  consumer INTEGER NOT NULL,
  key      TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  round    INTEGER NOT NULL CHECK (round >= 0),
  since    INTEGER NOT NULL,
  PRIMARY KEY (consumer, key, seq, round)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_held_keys_by_event ON raw_held_keys (seq);

-- Idempotency keys that are settled, and by which delivery.
CREATE TABLE raw_marks (
  consumer INTEGER NOT NULL,
  key      TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  round    INTEGER NOT NULL CHECK (round >= 0),
  until    INTEGER NOT NULL,
  PRIMARY KEY (consumer, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_marks_by_expiry ON raw_marks (until);

CREATE TABLE raw_paused (
  consumer INTEGER PRIMARY KEY,
  since    INTEGER NOT NULL
) STRICT;

-- Deliveries that were in hand when the host died, or may be when it dies again. crashes: how often that was so.
CREATE TABLE raw_claims (
  consumer INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  round    INTEGER NOT NULL CHECK (round >= 0),
  crashes  INTEGER NOT NULL CHECK (crashes > 0),
  in_hand  INTEGER NOT NULL CHECK (in_hand IN (0, 1)),
  PRIMARY KEY (consumer, seq, round)
) STRICT, WITHOUT ROWID;

-- How far each consumer has come: everything up to seq is settled or waiting. begins: the first event that it is for, if
-- that is not the first one after it was deployed. lines_by, marks_by: the rules by which the keys in raw_waiting and
-- raw_held_keys, and those in raw_marks, were found; NULL while that is being changed. kind: 0 consumer, 1 pipeline;
-- deployed: 0 if it is there for its runs alone.
CREATE TABLE raw_cursors (
  consumer INTEGER PRIMARY KEY,
  seq      INTEGER NOT NULL CHECK (seq >= 0),
  begins   INTEGER CHECK (begins > 0),
  lines_by TEXT DEFAULT '',
  marks_by TEXT DEFAULT '',
  kind     INTEGER NOT NULL DEFAULT 0 CHECK (kind IN (0, 1)),
  deployed INTEGER NOT NULL DEFAULT 1 CHECK (deployed IN (0, 1))
) STRICT;

CREATE TABLE raw_generations (
  generation    INTEGER PRIMARY KEY CHECK (generation > 0),
  digest        BLOB NOT NULL CHECK (length(digest) = 32),
  from_seq      INTEGER NOT NULL CHECK (from_seq > 0),
  activated_at  INTEGER NOT NULL,
  subscriptions TEXT NOT NULL
) STRICT;

-- slot: the last one that is over; it fired, or the schedule was new then.
CREATE TABLE raw_schedules (
  name TEXT PRIMARY KEY,
  rule TEXT NOT NULL,
  slot INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Questions and what came of them, for people to look at: nothing depends on a row. number: as they were taken down, a moment
-- after the answer. type: as text, because a client may ask for anything. seq, round, call: of the delivery that asked, consumer:
-- who asked, parent: the question that was being answered. outcome: 0 answered, 1 no-responder, 2 timed-out, 3 invalid,
-- 4 not-found, 5 unavailable, 6 failed, 7 abandoned.
CREATE TABLE raw_queries (
  number         INTEGER PRIMARY KEY AUTOINCREMENT,
  id             ANY NOT NULL CHECK (typeof(id) = 'text' OR (typeof(id) = 'blob' AND length(id) = 16)),
  type           TEXT NOT NULL,
  asked_at       INTEGER NOT NULL,
  responder      INTEGER,
  seq            INTEGER,
  consumer       INTEGER,
  round          INTEGER,
  call           INTEGER,
  parent         ANY,
  correlation    ANY NOT NULL,
  depth          INTEGER NOT NULL CHECK (depth >= 1),
  outcome        INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 7),
  reason         TEXT,
  duration_us    INTEGER NOT NULL CHECK (duration_us >= 0),
  fuel           INTEGER NOT NULL CHECK (fuel >= 0),
  question_bytes INTEGER NOT NULL,
  answer_bytes   INTEGER NOT NULL,
  generation     INTEGER NOT NULL,
  logs           TEXT,
  CHECK (outcome <> 0 OR reason IS NULL),
  CHECK ((seq IS NULL) = (call IS NULL)),
  CHECK (seq IS NULL OR parent IS NULL),
  CHECK ((consumer IS NULL) = (seq IS NULL AND parent IS NULL))
) STRICT;
CREATE INDEX raw_queries_by_time ON raw_queries (asked_at);
CREATE INDEX raw_queries_by_correlation ON raw_queries (correlation);
-- What the handling of an event asked, and what a responder asked in turn.
CREATE INDEX raw_queries_by_event ON raw_queries (seq) WHERE seq IS NOT NULL;
CREATE INDEX raw_queries_by_parent ON raw_queries (parent) WHERE parent IS NOT NULL;

CREATE TABLE raw_state (
  consumer   INTEGER NOT NULL,
  key        TEXT NOT NULL,
  version    INTEGER NOT NULL CHECK (version > 0),
  expires_at INTEGER,
  value      BLOB NOT NULL,
  sum        INTEGER NOT NULL,
  PRIMARY KEY (consumer, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_state_by_expiry ON raw_state (expires_at) WHERE expires_at IS NOT NULL;

-- bytes: of a consumer's keys and values. revision: the version of its latest write. Rows stay, so versions never repeat.
CREATE TABLE raw_state_totals (
  consumer INTEGER PRIMARY KEY,
  bytes    INTEGER NOT NULL CHECK (bytes >= 0),
  revision INTEGER NOT NULL CHECK (revision >= 0)
) STRICT;

CREATE VIEW events AS
SELECT
  e.seq AS sequence,
  CASE typeof(e.id) WHEN 'blob' THEN lower(substr(hex(e.id), 1, 8) || '-' || substr(hex(e.id), 9, 4) || '-' ||
    substr(hex(e.id), 13, 4) || '-' || substr(hex(e.id), 17, 4) || '-' || substr(hex(e.id), 21)) ELSE e.id END AS id,
  (SELECT text FROM names WHERE names.id = e.type) AS type,
  (SELECT text FROM names WHERE names.id = e.source) AS source,
  e.subject,
  e.key,
  (SELECT text FROM names WHERE names.id = e.data_version) AS data_version,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.timestamp / 1e6, 'unixepoch') AS timestamp,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.accepted_at / 1e6, 'unixepoch') AS accepted_at,
  CASE typeof(coalesce(e.correlation, e.id)) WHEN 'blob' THEN
    lower(substr(hex(coalesce(e.correlation, e.id)), 1, 8) || '-' || substr(hex(coalesce(e.correlation, e.id)), 9, 4)
    || '-' || substr(hex(coalesce(e.correlation, e.id)), 13, 4) || '-' ||
    substr(hex(coalesce(e.correlation, e.id)), 17, 4) || '-' || substr(hex(coalesce(e.correlation, e.id)), 21))
    ELSE coalesce(e.correlation, e.id) END AS correlation_id,
  CASE typeof(e.causation) WHEN 'blob' THEN lower(substr(hex(e.causation), 1, 8) || '-' ||
    substr(hex(e.causation), 9, 4) || '-' || substr(hex(e.causation), 13, 4) || '-' || substr(hex(e.causation), 17, 4)
    || '-' || substr(hex(e.causation), 21)) ELSE e.causation END AS causation_id,
  e.traceparent,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.not_before / 1e6, 'unixepoch') AS not_before,
  (SELECT text FROM names WHERE names.id = j.consumer) AS job_to,
  CASE j.priority WHEN 0 THEN 'low' WHEN 1 THEN 'normal' WHEN 2 THEN 'high' END AS job_priority,
  j.retry AS job_retry,
  e.depth,
  e.attributes,
  (SELECT text FROM names WHERE names.id = e.content_type) AS content_type,
  CAST(e.data AS TEXT) AS data,
  length(e.data) AS data_bytes,
  lower(hex(e.hash)) AS hash
FROM raw_events AS e LEFT JOIN raw_jobs AS j ON j.seq = e.seq;

CREATE VIEW outcomes AS
SELECT
  o.seq AS sequence,
  (SELECT text FROM names WHERE names.id = o.consumer) AS consumer,
  o.round,
  o.call,
  o.attempt,
  CASE o.outcome WHEN 0 THEN 'done' WHEN 1 THEN 'retry' WHEN 2 THEN 'defer' WHEN 3 THEN 'reject' WHEN 4 THEN 'trapped'
    WHEN 5 THEN 'timed-out' WHEN 6 THEN 'out-of-fuel' WHEN 7 THEN 'out-of-memory' WHEN 8 THEN 'over-limit'
    WHEN 9 THEN 'refused' WHEN 10 THEN 'interrupted' WHEN 11 THEN 'duplicate' WHEN 12 THEN 'expired'
    WHEN 13 THEN 'crashed' WHEN 14 THEN 'withdrawn' END AS outcome,
  CASE o.state WHEN 0 THEN 'succeeded' WHEN 1 THEN 'pending' WHEN 2 THEN 'dead' WHEN 3 THEN 'cancelled' END AS state,
  o.reason,
  strftime('%Y-%m-%dT%H:%M:%fZ', o.started_at / 1e6, 'unixepoch') AS started_at,
  o.duration_us / 1e3 AS duration_ms,
  o.fuel,
  o.memory_peak,
  o.published,
  o.generation,
  (SELECT text FROM names WHERE names.id = o.component) AS component,
  (SELECT text FROM names WHERE names.id = o.output_type) AS output_type,
  CAST(o.output AS TEXT) AS output,
  o.logs,
  o.logs_dropped,
  CASE WHEN o.round = 0 AND EXISTS (SELECT 1 FROM raw_jobs AS j WHERE j.seq = o.seq) THEN 'job'
    WHEN o.round = 0 THEN 'subscription' WHEN EXISTS (SELECT 1 FROM raw_replayed AS d WHERE d.seq = o.seq
    AND d.consumer = o.consumer AND d.round = o.round) THEN 'replay' ELSE coalesce((SELECT
    CASE s.undo WHEN 0 THEN 'step' ELSE 'compensation' END FROM raw_errands AS s WHERE s.seq = o.seq
    AND s.consumer = o.consumer AND s.round = o.round), 'redrive') END AS origin
FROM raw_outcomes AS o;

CREATE VIEW waiting AS
SELECT
  w.seq AS sequence,
  (SELECT text FROM names WHERE names.id = w.consumer) AS consumer,
  w.round,
  strftime('%Y-%m-%dT%H:%M:%fZ', w.due_at / 1e6, 'unixepoch') AS due_at,
  w.attempts,
  w.calls,
  w.key,
  w.blocked,
  CASE w.priority WHEN 0 THEN 'low' WHEN 1 THEN 'normal' WHEN 2 THEN 'high' END AS priority
FROM raw_waiting AS w;

CREATE VIEW dead_letters AS
SELECT
  d.seq || '/' || (SELECT text FROM names WHERE names.id = d.consumer) ||
    CASE d.round WHEN 0 THEN '' ELSE '/' || d.round END AS id,
  d.seq AS sequence,
  (SELECT text FROM names WHERE names.id = d.consumer) AS consumer,
  d.round,
  (SELECT text FROM names WHERE names.id = (SELECT type FROM raw_events WHERE raw_events.seq = d.seq)) AS type,
  d.cause,
  CASE d.outcome WHEN 1 THEN 'retry' WHEN 2 THEN 'defer' WHEN 3 THEN 'reject' WHEN 4 THEN 'trapped'
    WHEN 5 THEN 'timed-out' WHEN 6 THEN 'out-of-fuel' WHEN 7 THEN 'out-of-memory' WHEN 8 THEN 'over-limit'
    WHEN 9 THEN 'refused' WHEN 10 THEN 'interrupted' WHEN 11 THEN 'duplicate' WHEN 12 THEN 'expired'
    WHEN 13 THEN 'crashed' WHEN 14 THEN 'withdrawn' END AS outcome,
  d.reason,
  d.attempts,
  strftime('%Y-%m-%dT%H:%M:%fZ', d.died_at / 1e6, 'unixepoch') AS died_at,
  d.status,
  strftime('%Y-%m-%dT%H:%M:%fZ', d.decided_at / 1e6, 'unixepoch') AS decided_at,
  d.key
FROM raw_dead_letters AS d;

CREATE VIEW held_keys AS
SELECT
  (SELECT text FROM names WHERE names.id = h.consumer) AS consumer,
  h.key,
  h.seq AS sequence,
  h.round,
  strftime('%Y-%m-%dT%H:%M:%fZ', h.since / 1e6, 'unixepoch') AS since,
  (SELECT count(*) FROM raw_waiting AS w WHERE w.consumer = h.consumer AND w.key = h.key AND w.blocked = 1) AS blocked
FROM raw_held_keys AS h;

CREATE VIEW idempotency_keys AS
SELECT
  (SELECT text FROM names WHERE names.id = m.consumer) AS consumer,
  m.key,
  m.seq AS sequence,
  m.round,
  strftime('%Y-%m-%dT%H:%M:%fZ', m.until / 1e6, 'unixepoch') AS until
FROM raw_marks AS m;

CREATE VIEW paused AS
SELECT
  (SELECT text FROM names WHERE names.id = p.consumer) AS consumer,
  strftime('%Y-%m-%dT%H:%M:%fZ', p.since / 1e6, 'unixepoch') AS since
FROM raw_paused AS p;

CREATE VIEW schedules AS
SELECT
  s.name,
  s.rule,
  strftime('%Y-%m-%dT%H:%M:%fZ', s.slot / 1e6, 'unixepoch') AS slot
FROM raw_schedules AS s;

CREATE VIEW generations AS
SELECT
  g.generation,
  lower(hex(g.digest)) AS digest,
  g.from_seq AS from_sequence,
  strftime('%Y-%m-%dT%H:%M:%fZ', g.activated_at / 1e6, 'unixepoch') AS activated_at,
  g.subscriptions
FROM raw_generations AS g;

CREATE VIEW consumers AS
SELECT
  n.text AS name,
  CASE c.kind WHEN 0 THEN 'consumer' WHEN 1 THEN 'pipeline' END AS kind,
  CASE WHEN c.deployed = 1 AND EXISTS (SELECT 1 FROM json_each((SELECT subscriptions FROM raw_generations
    ORDER BY generation DESC LIMIT 1)) AS s WHERE s.key = n.text) THEN 'active' ELSE 'removed' END AS status,
  c.seq AS position,
  (SELECT count(*) FROM raw_waiting AS w WHERE w.consumer = c.consumer) AS waiting,
  (SELECT count(*) FROM raw_dead_letters AS d WHERE d.consumer = c.consumer AND d.status = 'dead') AS dead_letters,
  (SELECT bytes FROM raw_state_totals AS t WHERE t.consumer = c.consumer) AS state_bytes
FROM raw_cursors AS c JOIN names AS n ON n.id = c.consumer;

CREATE VIEW queries AS
SELECT
  q.number,
  CASE typeof(q.id) WHEN 'blob' THEN lower(substr(hex(q.id), 1, 8) || '-' || substr(hex(q.id), 9, 4)
    || '-' || substr(hex(q.id), 13, 4) || '-' || substr(hex(q.id), 17, 4) || '-' || substr(hex(q.id), 21)) ELSE q.id END AS id,
  q.type,
  strftime('%Y-%m-%dT%H:%M:%fZ', q.asked_at / 1e6, 'unixepoch') AS asked_at,
  (SELECT text FROM names WHERE names.id = q.responder) AS responder,
  CASE WHEN q.seq IS NOT NULL THEN 'delivery' WHEN q.parent IS NOT NULL THEN 'query' ELSE 'client' END AS asked_by,
  (SELECT text FROM names WHERE names.id = q.consumer) AS consumer,
  q.seq AS sequence,
  q.round,
  q.call,
  CASE typeof(q.parent) WHEN 'blob' THEN lower(substr(hex(q.parent), 1, 8) || '-' || substr(hex(q.parent), 9, 4)
    || '-' || substr(hex(q.parent), 13, 4) || '-' || substr(hex(q.parent), 17, 4) || '-' || substr(hex(q.parent), 21)) ELSE q.parent END AS parent,
  CASE typeof(q.correlation) WHEN 'blob' THEN lower(substr(hex(q.correlation), 1, 8) || '-' || substr(hex(q.correlation), 9, 4)
    || '-' || substr(hex(q.correlation), 13, 4) || '-' || substr(hex(q.correlation), 17, 4) || '-' || substr(hex(q.correlation), 21)) ELSE q.correlation END AS correlation_id,
  q.depth,
  CASE q.outcome WHEN 0 THEN 'answered' WHEN 1 THEN 'no-responder' WHEN 2 THEN 'timed-out' WHEN 3 THEN 'invalid'
    WHEN 4 THEN 'not-found' WHEN 5 THEN 'unavailable' WHEN 6 THEN 'failed' WHEN 7 THEN 'abandoned' END AS outcome,
  q.reason,
  q.duration_us / 1e3 AS duration_ms,
  q.fuel,
  q.question_bytes,
  q.answer_bytes,
  q.generation,
  q.logs
FROM raw_queries AS q;

CREATE VIEW state AS
SELECT
  (SELECT text FROM names WHERE names.id = s.consumer) AS consumer,
  s.key,
  s.version,
  strftime('%Y-%m-%dT%H:%M:%fZ', s.expires_at / 1e6, 'unixepoch') AS expires_at,
  length(s.value) AS bytes,
  CAST(s.value AS TEXT) AS value
FROM raw_state AS s;

CREATE VIEW losses AS
SELECT
  l.first_seq AS first_sequence,
  l.last_seq AS last_sequence,
  l.detail,
  strftime('%Y-%m-%dT%H:%M:%fZ', l.recorded_at / 1e6, 'unixepoch') AS recorded_at
FROM raw_losses AS l;

-- How often a consumer's attempts came to what, those included that are past their retention, and the last of their events.
CREATE TABLE raw_tallies (
  consumer INTEGER NOT NULL,
  outcome  INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 14),
  attempts INTEGER NOT NULL CHECK (attempts > 0),
  last_seq INTEGER NOT NULL CHECK (last_seq > 0),
  PRIMARY KEY (consumer, outcome)
) STRICT, WITHOUT ROWID;

-- Replays. status: deliveries are still to be made (running), all are made, no more are made. position: everything up to
-- there is made or skipped. made, dead, skipped: deliveries.
CREATE TABLE raw_replays (
  id          INTEGER PRIMARY KEY,
  from_seq    INTEGER NOT NULL CHECK (from_seq > 0),
  to_seq      INTEGER NOT NULL CHECK (to_seq >= from_seq),
  type        TEXT,
  key         TEXT,
  correlation TEXT,
  consumer    TEXT,
  rate_count  INTEGER CHECK (rate_count > 0),
  rate_ms     INTEGER CHECK (rate_ms > 0),
  position    INTEGER NOT NULL CHECK (position BETWEEN from_seq - 1 AND to_seq),
  status      TEXT NOT NULL CHECK (status IN ('running', 'made', 'cancelled')),
  made        INTEGER NOT NULL CHECK (made >= 0),
  dead        INTEGER NOT NULL CHECK (dead BETWEEN 0 AND made),
  skipped     INTEGER NOT NULL CHECK (skipped >= 0),
  created_at  INTEGER NOT NULL,
  ended_at    INTEGER,
  CHECK ((rate_count IS NULL) = (rate_ms IS NULL)),
  CHECK (status <> 'made' OR position = to_seq)
) STRICT;

-- Deliveries that a replay has made. open: not final yet.
CREATE TABLE raw_replayed (
  seq      INTEGER NOT NULL,
  consumer INTEGER NOT NULL,
  round    INTEGER NOT NULL CHECK (round > 0),
  replay   INTEGER NOT NULL,
  open     INTEGER NOT NULL CHECK (open IN (0, 1)),
  PRIMARY KEY (seq, consumer, round)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_replayed_open ON raw_replayed (replay) WHERE open = 1;

CREATE VIEW replays AS
SELECT
  r.id,
  CASE WHEN r.status = 'made' AND NOT EXISTS (SELECT 1 FROM raw_replayed AS d WHERE d.replay = r.id AND d.open = 1)
    THEN 'done' WHEN r.status = 'cancelled' THEN 'cancelled' ELSE 'running' END AS status,
  r.from_seq AS from_sequence,
  r.to_seq AS to_sequence,
  r.type,
  r.key,
  r.correlation AS correlation_id,
  r.consumer,
  r.rate_count || '/' || CASE r.rate_ms WHEN 3600000 THEN 'h' WHEN 60000 THEN 'm' ELSE 's' END AS rate,
  r.position,
  r.made,
  r.made - (SELECT count(*) FROM raw_replayed AS d WHERE d.replay = r.id AND d.open = 1) AS finished,
  r.dead,
  r.skipped,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.created_at / 1e6, 'unixepoch') AS created_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.ended_at / 1e6, 'unixepoch') AS ended_at
FROM raw_replays AS r;

-- What runs go by: a pipeline's steps as they were deployed when a run began, as JSON.
CREATE TABLE raw_definitions (
  digest     BLOB PRIMARY KEY CHECK (length(digest) = 32),
  definition TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Runs of pipelines; seq is the event that began one. One run a key.
CREATE TABLE raw_runs (
  seq        INTEGER NOT NULL CHECK (seq > 0),
  pipeline   INTEGER NOT NULL,
  key        TEXT NOT NULL,
  definition BLOB NOT NULL CHECK (length(definition) = 32),
  status     TEXT NOT NULL CHECK (status IN
    ('running', 'compensating', 'stuck', 'completed', 'partial', 'compensated', 'stopped', 'cancelled')),
  began_at   INTEGER NOT NULL,
  ended_at   INTEGER,
  PRIMARY KEY (seq, pipeline),
  UNIQUE (pipeline, key),
  CHECK ((status IN ('running', 'compensating', 'stuck')) = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_runs_open ON raw_runs (pipeline, status, seq) WHERE ended_at IS NULL;
CREATE INDEX raw_runs_ended ON raw_runs (ended_at) WHERE ended_at IS NOT NULL;

-- What became of runs. n: the number of entries before. entries: what followed from one input, as JSON.
CREATE TABLE raw_journal (
  seq         INTEGER NOT NULL,
  pipeline    INTEGER NOT NULL,
  n           INTEGER NOT NULL CHECK (n >= 0),
  at          INTEGER NOT NULL,
  entries     TEXT NOT NULL,
  PRIMARY KEY (seq, pipeline, n)
) STRICT, WITHOUT ROWID;

-- What steps left behind: what their handlers returned, or the payload of the event that they waited for.
CREATE TABLE raw_outputs (
  seq          INTEGER NOT NULL,
  pipeline     INTEGER NOT NULL,
  step         INTEGER NOT NULL CHECK (step >= 0),
  content_type INTEGER NOT NULL,
  data         BLOB NOT NULL,
  PRIMARY KEY (seq, pipeline, step)
) STRICT, WITHOUT ROWID;

-- Deliveries that are a step of a run. step: its index in the definition. undo: it undoes the step. withdrawn: the run has
-- given it up.
CREATE TABLE raw_errands (
  seq       INTEGER NOT NULL,
  consumer  INTEGER NOT NULL,
  round     INTEGER NOT NULL CHECK (round > 0),
  pipeline  INTEGER NOT NULL,
  step      INTEGER NOT NULL CHECK (step >= 0),
  undo      INTEGER NOT NULL CHECK (undo IN (0, 1)),
  withdrawn INTEGER NOT NULL CHECK (withdrawn IN (0, 1)),
  PRIMARY KEY (seq, consumer, round)
) STRICT, WITHOUT ROWID;

-- Steps that wait for an event with a key, and keys that events have had for the steps that wait for such.
CREATE TABLE raw_waits (
  pipeline INTEGER NOT NULL,
  name     TEXT NOT NULL,
  key      TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  step     INTEGER NOT NULL CHECK (step >= 0),
  PRIMARY KEY (pipeline, name, key, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_waits_by_run ON raw_waits (seq, pipeline, step);
CREATE TABLE raw_arrivals (
  pipeline INTEGER NOT NULL,
  name     TEXT NOT NULL,
  key      TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  PRIMARY KEY (pipeline, name, key, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_arrivals_by_event ON raw_arrivals (seq);

-- When runs are to be looked at. step: whose wait is over then; -1: the run's own time is up.
CREATE TABLE raw_timers (
  seq      INTEGER NOT NULL,
  pipeline INTEGER NOT NULL,
  step     INTEGER NOT NULL CHECK (step >= -1),
  at       INTEGER NOT NULL,
  PRIMARY KEY (seq, pipeline, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX raw_timers_by_time ON raw_timers (at);

CREATE VIEW runs AS
SELECT
  r.seq || '/' || (SELECT text FROM names WHERE names.id = r.pipeline) AS id,
  (SELECT text FROM names WHERE names.id = r.pipeline) AS pipeline,
  r.key,
  r.status,
  r.seq AS sequence,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.began_at / 1e6, 'unixepoch') AS began_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', r.ended_at / 1e6, 'unixepoch') AS ended_at,
  (r.ended_at - r.began_at) / 1e3 AS duration_ms,
  lower(hex(r.definition)) AS definition
FROM raw_runs AS r;

CREATE VIEW run_journal AS
SELECT
  j.seq || '/' || (SELECT text FROM names WHERE names.id = j.pipeline) AS run,
  j.n + e.key AS line,
  strftime('%Y-%m-%dT%H:%M:%fZ', j.at / 1e6, 'unixepoch') AS at,
  e.value ->> 'entry' AS entry,
  (SELECT d.definition ->> ('$.steps[' || (e.value ->> 'step') || '].name') FROM raw_runs AS r
    JOIN raw_definitions AS d ON d.digest = r.definition WHERE r.seq = j.seq AND r.pipeline = j.pipeline) AS step,
  e.value ->> 'reason' AS reason,
  CASE WHEN e.value ->> 'entry' = 'done' THEN (SELECT CAST(o.data AS TEXT) FROM raw_outputs AS o WHERE o.seq = j.seq
    AND o.pipeline = j.pipeline AND o.step = e.value ->> 'step') END AS output
FROM raw_journal AS j, json_each(j.entries) AS e;

CREATE VIEW run_deliveries AS
SELECT
  s.seq || '/' || (SELECT text FROM names WHERE names.id = s.pipeline) AS run,
  (SELECT d.definition ->> ('$.steps[' || s.step || '].name') FROM raw_runs AS r
    JOIN raw_definitions AS d ON d.digest = r.definition WHERE r.seq = s.seq AND r.pipeline = s.pipeline) AS step,
  s.seq AS sequence,
  (SELECT text FROM names WHERE names.id = s.consumer) AS consumer,
  s.round,
  s.undo,
  s.withdrawn
FROM raw_errands AS s;
