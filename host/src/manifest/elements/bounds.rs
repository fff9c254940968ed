//! What every number of the manifest may be, in one table: the readers enforce it, the JSON Schema and the reference
//! say it, a test walks along its edges.

use super::super::reader::Bound;
use super::count::Count;
use super::duration::Millis;
use super::size::Bytes;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(crate) const TIMEOUT: Bound<Millis> = Bound(Millis(1)..=Millis::days(1));
pub(crate) const GRACE: Bound<Millis> = Bound(Millis(0)..=Millis::seconds(3_600));
pub(crate) const RETENTION: Bound<Millis> = Bound(Millis::seconds(60)..=Millis::days(3_650));
pub(crate) const RETRY_DELAY: Bound<Millis> = Bound(Millis(1)..=Millis::days(30));

pub(crate) const MEMORY: Bound<Bytes> = Bound(Bytes(64 * KIB)..=Bytes(4 * GIB));
pub(crate) const HOST_MEMORY: Bound<Bytes> = Bound(Bytes(MIB)..=Bytes(1_024 * GIB));
pub(crate) const BALLAST: Bound<Bytes> = Bound(Bytes(0)..=Bytes(GIB));
pub(crate) const EVENT_SIZE: Bound<Bytes> = Bound(Bytes(KIB)..=Bytes(16 * MIB));
pub(crate) const STATE_QUOTA: Bound<Bytes> = Bound(Bytes(KIB)..=Bytes(1_024 * GIB));

pub(crate) const FUEL: Bound<Count> = Bound(Count(1_000)..=Count(1_000_000_000_000_000));
pub(crate) const CONCURRENCY: Bound<Count> = Bound(Count(1)..=Count(10_000));
pub(crate) const HOST_ATTEMPTS: Bound<Count> = Bound(Count(1)..=Count(10_000));
pub(crate) const CHAIN_DEPTH: Bound<Count> = Bound(Count(1)..=Count(1_000));
pub(crate) const RETRY_ATTEMPTS: Bound<Count> = Bound(Count(1)..=Count(1_000));

pub(crate) const TIMEOUT_MAX: Bound<Millis> = Bound(Millis(1)..=Millis::days(7));
pub(crate) const EXPIRES: Bound<Millis> = Bound(Millis(1)..=Millis::days(3_650));
pub(crate) const IDEMPOTENCY: Bound<Millis> = Bound(Millis::seconds(1)..=Millis::days(3_650));
pub(crate) const BREAKER_FAILURES: Bound<Count> = Bound(Count(1)..=Count(1_000));
pub(crate) const BREAKER_WINDOW: Bound<Millis> = Bound(Millis(100)..=Millis::days(1));
pub(crate) const BREAKER_RECOVERY: Bound<Millis> = Bound(Millis(10)..=Millis::days(1));
pub(crate) const BATCH_SIZE: Bound<Count> = Bound(Count(2)..=Count(1_000));
pub(crate) const BATCH_WAIT: Bound<Millis> = Bound(Millis(0)..=Millis::seconds(60));
pub(crate) const RATE_COUNT: Bound<Count> = Bound(Count(1)..=Count(1_000_000));
pub(crate) const RATE_PER: Bound<Millis> = Bound(Millis(1)..=Millis::days(1));
pub(crate) const RUN: Bound<Millis> = Bound(Millis(1)..=Millis::days(3_650));
pub(crate) const WAIT: Bound<Millis> = Bound(Millis(1)..=Millis::days(3_650));

/// The factor of exponential backoff.
pub(crate) const FACTOR_MIN: f64 = 1.0;
pub(crate) const FACTOR_MAX: f64 = 100.0;

/// Type in the JSON Schema, key, and what it may be.
pub(crate) fn table() -> Vec<(&'static str, &'static str, String)> {
    let factor = format!("{FACTOR_MIN} to {FACTOR_MAX}");
    let mut rows = vec![
        ("Server", "grace", GRACE.show()),
        ("Retention", "events", RETENTION.show()),
        ("Retention", "outcomes", RETENTION.show()),
        ("HostLimits", "event-size", EVENT_SIZE.show()),
        ("HostLimits", "attempts", HOST_ATTEMPTS.show()),
        ("HostLimits", "memory", HOST_MEMORY.show()),
        ("HostLimits", "ballast", BALLAST.show()),
        ("Retry", "attempts", RETRY_ATTEMPTS.show()),
        ("Retry", "initial", RETRY_DELAY.show()),
        ("Retry", "max", RETRY_DELAY.show()),
        ("Retry", "factor", factor),
        ("State", "quota", STATE_QUOTA.show()),
        ("Breaker", "failures", BREAKER_FAILURES.show()),
        ("Breaker", "window", BREAKER_WINDOW.show()),
        ("Breaker", "recovery", BREAKER_RECOVERY.show()),
        ("Batch", "size", BATCH_SIZE.show()),
        ("Batch", "wait", BATCH_WAIT.show()),
        ("PerKey", "limit", CONCURRENCY.show()),
        ("Consumer", "timeout-max", TIMEOUT_MAX.show()),
        ("Consumer", "expires-after", EXPIRES.show()),
        ("Consumer", "idempotency-window", IDEMPOTENCY.show()),
        ("Pipeline", "timeout", RUN.show()),
        ("Wait", "timeout", WAIT.show()),
        ("Step", "timeout", TIMEOUT.show()),
        ("Step", "fuel", FUEL.show()),
        ("Step", "memory", MEMORY.show()),
        ("Consumer", "rate", format!("{} in {}", RATE_COUNT.show(), RATE_PER.show())),
    ];
    for shape in ["Defaults", "Consumer"] {
        rows.extend([
            (shape, "timeout", TIMEOUT.show()),
            (shape, "fuel", FUEL.show()),
            (shape, "memory", MEMORY.show()),
            (shape, "concurrency", CONCURRENCY.show()),
            (shape, "chain-depth", CHAIN_DEPTH.show()),
        ]);
    }
    rows
}
