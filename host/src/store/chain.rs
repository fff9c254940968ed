//! The hash chain: each event's hash covers all of it and the hash before.
//!
//! `hash = SHA-256(previous hash ‖ seq ‖ fields)`. Numbers are eight bytes, little-endian; a field is its length and
//! its bytes, an absent one the length 2⁶⁴−1 and no bytes. Before the first event stands SHA-256(database id). A job has
//! three fields more, after all others: its consumer, its priority and its retry.

use sha2::{Digest as _, Sha256};

use crate::model::Seq;

pub type Hash = [u8; 32];

/// The end of the log: the last sequence and the chain's hash there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub seq: Seq,
    pub hash: Hash,
}

impl Head {
    pub(super) fn genesis(database_id: &[u8; 16]) -> Self {
        Self { seq: 0, hash: Sha256::digest(database_id).into() }
    }
}

/// What a link takes besides the payload, about.
const LINK_BYTES: usize = 512;

/// An event as its row holds it, with names as texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub event_type: &'a str,
    pub data_version: &'a str,
    pub timestamp: i64,
    pub accepted_at: i64,
    pub not_before: Option<i64>,
    pub depth: u32,
    pub correlation_id: &'a str,
    pub causation_id: Option<&'a str>,
    pub subject: Option<&'a str>,
    pub key: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    /// A JSON object's text.
    pub attributes: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub data: Option<&'a [u8]>,
    pub job: Option<JobFields<'a>>,
}

/// What makes an event a job, as texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobFields<'a> {
    pub to: &'a str,
    pub priority: &'a str,
    pub retry: Option<&'a str>,
}

impl Fields<'_> {
    /// The hash of this event at `seq`, after `previous`.
    pub(super) fn link(&self, previous: &Hash, seq: Seq) -> Hash {
        let size = LINK_BYTES + self.data.map_or(0, <[u8]>::len);
        // Put together first: hashed piece by piece, short pieces cost more than what is in them.
        let mut linked = Vec::with_capacity(size);
        linked.extend_from_slice(previous);
        linked.extend_from_slice(&seq.to_le_bytes());
        let mut field = |bytes: Option<&[u8]>| {
            let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
            linked.extend_from_slice(&length.to_le_bytes());
            linked.extend_from_slice(bytes.unwrap_or_default());
        };
        for text in [self.id, self.source, self.event_type, self.data_version, self.correlation_id] {
            field(Some(text.as_bytes()));
        }
        let optional =
            [self.causation_id, self.subject, self.key, self.traceparent, self.attributes, self.content_type];
        for text in optional {
            field(text.map(str::as_bytes));
        }
        for number in [self.timestamp, self.accepted_at, i64::from(self.depth)] {
            field(Some(&number.to_le_bytes()));
        }
        field(self.not_before.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        field(self.data);
        if let Some(JobFields { to, priority, retry }) = self.job {
            for text in [Some(to), Some(priority), retry] {
                field(text.map(str::as_bytes));
            }
        }
        Sha256::digest(&linked).into()
    }
}
