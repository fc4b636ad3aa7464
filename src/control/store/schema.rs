//! The tables, as a list of steps. A step that has been in a release is never changed; a new one is added below.
//!
//! The text is valid for SQLite and for Postgres: integers are 64 bits, times are milliseconds since 1970, documents are JSON
//! text, flags are 0 and 1.

/// Each step once, in order; the number of those that were run is kept in `schema_version`.
pub(super) const STEPS: &[&[&str]] = &[FIRST, PUBLISHED, FILES, SEEN, HELD, BRAKES];

const FIRST: &[&str] = &[
    "CREATE TABLE resources (
        kind TEXT NOT NULL, cluster TEXT NOT NULL, name TEXT NOT NULL,
        service TEXT NOT NULL, spec TEXT NOT NULL, generation BIGINT NOT NULL, revision BIGINT NOT NULL,
        state TEXT NOT NULL, message TEXT NOT NULL, managed_by TEXT NOT NULL, kafka_id TEXT,
        observed TEXT, observed_ms BIGINT, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
        search TEXT NOT NULL,
        PRIMARY KEY (kind, cluster, name))",
    "CREATE INDEX resources_by_service ON resources (service, kind)",
    "CREATE TABLE requests (
        id TEXT PRIMARY KEY, actor TEXT NOT NULL, service TEXT NOT NULL, state TEXT NOT NULL,
        document TEXT NOT NULL, plan_hash TEXT NOT NULL, revision BIGINT NOT NULL,
        idempotency_key TEXT UNIQUE, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL)",
    "CREATE INDEX requests_by_state ON requests (state, created_ms)",
    "CREATE TABLE steps (
        request TEXT NOT NULL, seq BIGINT NOT NULL, document TEXT NOT NULL, state TEXT NOT NULL,
        attempts BIGINT NOT NULL, result TEXT, fence BIGINT NOT NULL,
        PRIMARY KEY (request, seq))",
    "CREATE TABLE reservations (
        cluster TEXT NOT NULL, resource TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL,
        disk_bytes BIGINT NOT NULL, partitions BIGINT NOT NULL, ingress_bytes_per_second BIGINT NOT NULL,
        PRIMARY KEY (cluster, resource, request))",
    "CREATE TABLE leases (
        name TEXT PRIMARY KEY, holder TEXT NOT NULL, fence BIGINT NOT NULL, until_ms BIGINT NOT NULL)",
    "CREATE TABLE secrets (
        resource TEXT NOT NULL, generation BIGINT NOT NULL, sealed TEXT, digest TEXT,
        reader TEXT NOT NULL, created_ms BIGINT NOT NULL, read_ms BIGINT, verified_ms BIGINT, locked BIGINT NOT NULL,
        expires_ms BIGINT,
        PRIMARY KEY (resource, generation))",
    "CREATE TABLE tokens (
        hash TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
        created_ms BIGINT NOT NULL, expires_ms BIGINT, used_ms BIGINT)",
    "CREATE TABLE policies (
        revision BIGINT PRIMARY KEY, document TEXT NOT NULL, actor TEXT NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE snapshots (revision BIGINT PRIMARY KEY, document TEXT NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE findings (
        resource TEXT NOT NULL, code TEXT NOT NULL, document TEXT NOT NULL,
        first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL,
        PRIMARY KEY (resource, code))",
    "CREATE TABLE audit (
        seq BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, actor TEXT NOT NULL, source TEXT NOT NULL, verb TEXT NOT NULL,
        object TEXT NOT NULL, request TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
        previous TEXT NOT NULL, hash TEXT NOT NULL)",
];

/// What proxies get, and who they are.
const PUBLISHED: &[&str] = &[
    "CREATE TABLE published (
        resource TEXT PRIMARY KEY, live TEXT, next TEXT, reason TEXT NOT NULL, changed_ms BIGINT NOT NULL)",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO counters (name, value) VALUES ('published', 0)",
    "CREATE TABLE proxies (name TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL, revision BIGINT NOT NULL)",
];

/// Which file of its repository a resource comes from.
const FILES: &[&str] = &["CREATE TABLE files (resource TEXT PRIMARY KEY, file TEXT NOT NULL)"];

/// What was seen of clusters.
const SEEN: &[&str] = &[
    "DROP TABLE findings",
    "CREATE TABLE findings (
        id TEXT PRIMARY KEY, cluster TEXT NOT NULL, resource TEXT NOT NULL, kind TEXT NOT NULL,
        document TEXT NOT NULL, first_ms BIGINT NOT NULL)",
    "CREATE INDEX findings_by_cluster ON findings (cluster, kind)",
    "CREATE TABLE probes (cluster TEXT PRIMARY KEY, document TEXT NOT NULL, at_ms BIGINT NOT NULL)",
    "CREATE TABLE unmanaged (
        cluster TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, first_ms BIGINT NOT NULL,
        PRIMARY KEY (cluster, kind, name))",
    "CREATE TABLE measures (
        cluster TEXT NOT NULL, subject TEXT NOT NULL, document TEXT NOT NULL, at_ms BIGINT NOT NULL,
        PRIMARY KEY (cluster, subject))",
];

/// What a request has reserved, found by it.
const HELD: &[&str] = &["CREATE INDEX reservations_by_request ON reservations (request)"];

/// How much of event types is let through for now, whoever they belong to.
const BRAKES: &[&str] =
    &["CREATE TABLE brakes (resource TEXT PRIMARY KEY, document TEXT NOT NULL, at_ms BIGINT NOT NULL)"];
