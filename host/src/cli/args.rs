//! Arguments that several commands share, and how their values are written.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::error::Error;
use crate::model::query::{LIMIT, LIMIT_MAX};
use crate::model::{Seq, Timestamp};

/// The manifest's name where nobody names one.
pub(super) const MANIFEST: &str = "tidegate.yaml";

/// Which host.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
    /// The manifest; a running host is found beside it.
    #[arg(short, long, value_name = "PATH", default_value = MANIFEST, help_heading = "Where")]
    pub(super) manifest: PathBuf,
    /// Address of a running host; its token comes from TIDEGATE_TOKEN.
    #[arg(long, value_name = "URL", help_heading = "Where")]
    pub(super) url: Option<String>,
}

/// Which host or database file, and how to answer.
#[derive(Args, Clone, Debug)]
pub(super) struct Reading {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// Read this database file, whether or not a host runs.
    #[arg(long, value_name = "PATH", conflicts_with = "url", help_heading = "Where")]
    pub(super) database: Option<PathBuf>,
    /// Answer in JSON, one object a line.
    #[arg(long)]
    pub(super) json: bool,
}

/// Which part of the record.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Span {
    /// From this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago: 15m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub(super) since: Option<When>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub(super) until: Option<When>,
    /// After this sequence number, oldest first.
    #[arg(long, value_name = "SEQ", conflicts_with = "before")]
    pub(super) after: Option<Seq>,
    /// Before this sequence number.
    #[arg(long, value_name = "SEQ")]
    pub(super) before: Option<Seq>,
    /// How many at most, or `all`. Without `--after` these are the newest; they are always shown oldest first.
    #[arg(long, value_name = "N", default_value_t = Limit(LIMIT), value_parser = Limit::parse)]
    pub(super) limit: Limit,
}

impl Span {
    /// Whether the newest are wanted. With no limit the order of asking does not matter, and oldest first can be
    /// shown while the rest is still being read.
    pub(super) fn newest(&self) -> bool {
        self.after.is_none() && self.limit.0 != usize::MAX
    }
}

/// A point in time as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(span) = duration(text) {
            return Ok(Self::Ago(span));
        }
        Timestamp::parse(text)
            .or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z")))
            .map(Self::At)
            .map_err(|_| "write a time as 2026-01-31T08:00:00Z or 2026-01-31, or how long ago: 15m, 2h, 7d".into())
    }

    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => Timestamp(now.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))),
        }
    }
}

/// A number of rows; `usize::MAX` is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub usize);

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl Limit {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(usize::MAX)),
            _ => text
                .parse()
                .ok()
                .filter(|&n| n > 0)
                .map(Self)
                .ok_or_else(|| "write a number from 1, or `all`".to_owned()),
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == usize::MAX { f.write_str("all") } else { write!(f, "{}", self.0) }
    }
}

/// A duration as the manifest writes it: `250ms`, `30s`, `1m30s`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration as 250ms, 30s, 1m30s, 2h or 7d".to_owned();
    let (mut total, mut rest) = (Duration::ZERO, text);
    if text.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// A part of what is asked for: one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) after: Option<Seq>,
    pub(super) before: Option<Seq>,
    pub(super) newest: bool,
    pub(super) limit: usize,
}

/// Reads page after page and hands over what is asked for, oldest first. Several rows may share a sequence number and
/// fall on both sides of a page's edge, so a page begins with the last number of the one before and what is known
/// already is left out. A page may be short because its rows are large, so only one without anything new is the last.
pub(super) fn pages<T, K: PartialEq>(
    span: &Span,
    key: impl Fn(&T) -> (Seq, K),
    mut fetch: impl FnMut(Page) -> Result<Vec<T>, Error>,
    mut each: impl FnMut(T) -> Result<(), Error>,
) -> Result<(), Error> {
    let newest = span.newest();
    let (mut page, mut left) = (Page { after: span.after, before: span.before, newest, limit: 0 }, span.limit.0);
    let (mut edge, mut kept): (Vec<(Seq, K)>, Vec<T>) = (Vec::new(), Vec::new());
    while left > 0 {
        page.limit = left.saturating_add(edge.len()).min(LIMIT_MAX);
        let rows = fetch(page)?;
        let fresh: Vec<T> = rows.into_iter().filter(|row| !edge.contains(&key(row))).take(left).collect();
        let Some(last) = fresh.last().map(|row| key(row).0) else { break };
        left = left.saturating_sub(fresh.len());
        edge.retain(|(seq, _)| *seq == last);
        edge.extend(fresh.iter().map(&key).filter(|(seq, _)| *seq == last));
        if newest {
            page.before = Some(last.saturating_add(1));
            kept.extend(fresh);
        } else {
            page.after = Some(last.saturating_sub(1));
            fresh.into_iter().try_for_each(&mut each)?;
        }
    }
    kept.into_iter().rev().try_for_each(each)
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
