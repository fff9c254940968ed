//! The parts of a manifest, one file a concept: its authored type, whose doc comments are the reference and the JSON
//! Schema, and its reader.

pub(crate) mod answers;
pub(crate) mod bounds;
pub(crate) mod breaker;
pub(crate) mod consumer;
pub(crate) mod count;
pub(crate) mod defaults;
pub(crate) mod delivery;
pub(crate) mod duration;
pub(crate) mod event;
pub(crate) mod expression;
pub(crate) mod grants;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod pipeline;
pub(crate) mod rate;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod server;
pub(crate) mod size;
pub(crate) mod step;
pub(crate) mod subscription;

use super::reader::Shape;

/// Every kind of map whose keys are ours, with the name of its type in the JSON Schema.
pub(crate) const SHAPES: &[(&str, &Shape)] = &[
    ("Manifest", &super::authored::SHAPE),
    ("Server", &server::SHAPE),
    ("Token", &server::TOKEN_SHAPE),
    ("Retention", &host::RETENTION_SHAPE),
    ("HostLimits", &host::LIMITS_SHAPE),
    ("Defaults", &defaults::SHAPE),
    ("Consumer", &consumer::SHAPE),
    ("Retry", &retry::SHAPE),
    ("Breaker", &breaker::SHAPE),
    ("Batch", &delivery::BATCH_SHAPE),
    ("PerKey", &delivery::SHARE_SHAPE),
    ("EventType", &event::SHAPE),
    ("Subscription", &subscription::SHAPE),
    ("Grants", &grants::SHAPE),
    ("State", &grants::STATE_SHAPE),
    ("Secret", &grants::SECRET_SHAPE),
    ("Origin", &http::SHAPE),
    ("Pipeline", &pipeline::SHAPE),
    ("Step", &step::SHAPE),
    ("Wait", &step::WAIT_SHAPE),
    ("Match", &step::MATCH_SHAPE),
    ("Parallel", &step::PARALLEL_SHAPE),
    ("Sequence", &step::SEQUENCE_SHAPE),
    ("Schedule", &schedule::SHAPE),
    ("Emit", &schedule::EMIT_SHAPE),
];

/// Where a key belongs that was found elsewhere.
pub(crate) fn home_of(key: &str) -> Option<&'static str> {
    SHAPES.iter().find(|(_, shape)| shape.keys.contains(&key)).map(|(_, shape)| shape.what)
}
